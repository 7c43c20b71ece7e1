#!/usr/bin/env python3
"""How long a thousand secrets take: to be placed, and to be found as they should be.

As root the targets belong to a uid that nobody has, so a worker gives up root; else to the caller. Everything is in a
temporary folder (TMPDIR), on whatever file system that is. The limits are those that it must keep: exit code 1 when a
median is beyond one.
"""
import argparse, datetime, os, pathlib, platform, shutil, statistics, subprocess, sys, tempfile, time

README = pathlib.Path(__file__).with_name("README.md")
BEGIN, END = "<!-- benches/secrets.py: begin -->", "<!-- benches/secrets.py: end -->"
# In milliseconds, for a thousand.
MOST = {"placed": 1000, "unchanged, found so by `place`": None, "unchanged, found so by `check`": 100}

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


def line(count: int, what: str, times: list[float]) -> str:
    most = MOST[what] if count == 1000 else None
    limit = f"{most}" if most else ""
    return f"| {count} secrets {what} | {statistics.median(times):.0f} | {max(times):.0f} | {limit} |\n"


def measure(placer: str, count: int, rounds: int, folder: pathlib.Path) -> dict[str, list[float]]:
    uid, gid = (64123, 64123) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    folder.chmod(0o755)
    (folder / "src").mkdir()
    (folder / "home").mkdir()
    os.chown(folder / "home", uid, gid)
    manifest = folder / "m.toml"
    entries = [ENTRY.format(n, folder, n % 10, uid, gid) for n in range(count)]
    manifest.write_text(f'state_dir = "{folder}/state"\n' + "".join(entries))
    place, check = ([placer, verb, "--manifest", str(manifest)] for verb in ("place", "check"))
    times: dict[str, list[float]] = {what: [] for what in MOST}
    for round in range(rounds):
        for n in range(count):
            source = folder / f"src/s{n}"
            source.write_text(f"secret {n} of round {round}\n" + "x" * 400)
            source.chmod(0o600)
        # The sources' own writing is not what is measured.
        os.sync()
        for took, command in zip(times.values(), (place, place, check)):
            took.append(timed(command))
    return times


def header(rounds: int, folder: pathlib.Path) -> str:
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()
    who = "as root, for another uid" if os.geteuid() == 0 else "as a user, for itself"
    return (
        f"{at}, {rounds} rounds, {who}, 10 folders on {kind}; {os.cpu_count()} CPUs, Linux {platform.release()}, "
        f"load average {load}.\n\n| | median, ms | longest, ms | must be under, ms |\n|---|---:|---:|---:|\n"
    )


def replace_part(readme: pathlib.Path, text: str) -> None:
    old = readme.read_text()
    if (old.count(BEGIN), old.count(END)) != (1, 1):
        sys.exit(f"secrets.py: replace the results in `{readme}`: it must have `{BEGIN}` and `{END}`, each once")
    before, rest = old.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("placer", nargs="?", default="target/release/secrets-placer", help="[%(default)s]")
    parser.add_argument("--count", type=int, default=1000, help="how many secrets [%(default)s]")
    parser.add_argument("--rounds", type=int, default=20, help="[%(default)s]")
    parser.add_argument("--readme", action="store_true", help="write the results into benches/README.md, too")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cc-bench."))
    try:
        times = measure(os.path.abspath(args.placer), args.count, args.rounds, folder)
        text = header(args.rounds, folder) + "".join(line(args.count, what, took) for what, took in times.items())
    finally:
        shutil.rmtree(folder)
    print(text, end="")
    if args.readme:
        replace_part(README, text + "\n")
    limits = {what: most for what, most in MOST.items() if most and args.count == 1000}
    slow = [what for what, most in limits.items() if statistics.median(times[what]) >= most]
    if slow:
        sys.exit(f"secrets.py: too slow: {', '.join(slow)}")


main()
