#!/usr/bin/env python3
"""How long a thousand secrets take: to be placed, and to be found as they should be.

usage: benches/secrets.py [SECRETS_PLACER [COUNT [ROUNDS]]]      default: target/release/secrets-placer, 1000, 5

As root the targets belong to a uid that nobody has, so a worker gives up root; else to the caller. Everything is in a
temporary folder (TMPDIR), on whatever file system that is.
"""
import os, pathlib, shutil, statistics, subprocess, sys, tempfile, time

ENTRY = """[secrets.s{0}]
source = "{1}/src/s{0}"
path = "{1}/home/f{2}/s{0}"
owner = "{3}"
group = "{4}"
"""


def timed(command: list[str]) -> float:
    begun = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE)
    took = time.monotonic() - begun
    if done.returncode != 0:
        sys.exit(f"secrets.py: {command} failed: {done.stdout[-500:]!r}")
    return took * 1000


def shown(what: str, times: list[float]) -> None:
    print(f"{what}: median {statistics.median(times):.0f} ms, longest {max(times):.0f} ms, {len(times)} rounds")


def main() -> None:
    placer = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/secrets-placer")
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cc-bench."))
    uid, gid = (64123, 64123) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    try:
        folder.chmod(0o755)
        (folder / "src").mkdir()
        (folder / "home").mkdir()
        os.chown(folder / "home", uid, gid)
        entries = [ENTRY.format(n, folder, n % 10, uid, gid) for n in range(count)]
        manifest = folder / "m.toml"
        manifest.write_text(f'state_dir = "{folder}/state"\n' + "".join(entries))
        place, check = ([placer, verb, "--manifest", str(manifest)] for verb in ("place", "check"))
        placed, unchanged, checked = [], [], []
        for round in range(rounds):
            for n in range(count):
                source = folder / f"src/s{n}"
                source.write_text(f"secret {n} of round {round}\n" + "x" * 400)
                source.chmod(0o600)
            # The sources' own writing is not what is measured.
            os.sync()
            placed.append(timed(place))
            unchanged.append(timed(place))
            checked.append(timed(check))
        shown(f"{count} secrets placed", placed)
        shown(f"{count} unchanged secrets found so by place", unchanged)
        shown(f"{count} unchanged secrets checked", checked)
    finally:
        shutil.rmtree(folder)


main()
