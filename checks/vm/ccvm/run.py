"""checks/run: which scenarios run, in what guests, two at most at once; and how it went."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import image, payload, qemu, scenario, shell
from .errors import CannotRunHere, MachineError
from .log import Log
from .scenario import BadScenario, Scenario

# As many as there are cores on the smallest computer that this is meant for.
MOST_JOBS = 2


@dataclass
class Job:
    """One guest's driver process."""

    members: list[Scenario]
    out: Path
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    began: float = 0.0
    text: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.members[0].guest or self.members[0].name


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.shell:
        try:
            return shell.interact(options.shell / "shell")
        except (MachineError, OSError) as error:
            print(f"checks/run --shell {options.shell}: {error}; is that guest still up?", file=sys.stderr)
            return 1
    try:
        known = scenario.find()
        if options.list:
            list_them(known)
            return 0
        unknown = [name for name in options.names if name not in known]
        if unknown:
            print(f"checks/run: there is no scenario {unknown}; `checks/run --list` names all", file=sys.stderr)
            return 2
        chosen = [known[name] for name in options.names] if options.names else list(known.values())
        jobs = [Job(members, out_folder(members)) for members in scenario.groups(chosen)]
    except BadScenario as error:
        print(f"checks/run: {error}", file=sys.stderr)
        return 2
    if options.keep and len(jobs) > 1:
        print(f"checks/run: --keep keeps one guest, these are {len(jobs)}", file=sys.stderr)
        return 2
    log = Log()
    try:
        return run_jobs(jobs, options, log)
    except MachineError as error:
        print(f"checks/run: {error}", file=sys.stderr)
        return 1
    except CannotRunHere as error:
        print(f"cannot run here: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    finally:
        for job in jobs:
            end(job)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="checks/run", description="Runs scenarios of checks/ in Debian guests.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios; all if none is named")
    parser.add_argument("--list", action="store_true", help="name the scenarios, their guests and time budgets")
    parser.add_argument("--keep", action="store_true", help="leave the guest up and print how to get in")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=f"guests at once, at most {MOST_JOBS}")
    parser.add_argument("--shell", type=Path, metavar="FOLDER", help="a root shell in a guest that was left up")
    return parser.parse_args()


def list_them(known: dict[str, Scenario]) -> None:
    for one in known.values():
        where = f"guest {one.guest}" if one.guest else "its own guest"
        print(f"{one.name:14} {one.budget_minutes:4g} min  {where:14} {one.title}")


def out_folder(members: list[Scenario]) -> Path:
    target = Path(os.environ.get("CARGO_TARGET_DIR", payload.REPOSITORY / "target"))
    return target.absolute() / "checks" / (members[0].guest or members[0].name)


def run_jobs(jobs: list[Job], options: argparse.Namespace, log: Log) -> int:
    """Builds what they need, runs them, prints a summary; the exit code."""
    built = image.ensure(log)
    accelerator, why = qemu.choose(built.kernel, built.initrd)
    log.line(f"accelerator: {accelerator.name} ({why})")
    builds = sorted({job.members[0].binaries for job in jobs})
    binaries = {}
    for build in builds:
        with log.nested(f"binaries: {build}"):
            binaries[build] = payload.build_binaries(build)
    waiting = list(jobs)
    running: list[Job] = []
    failed: list[str] = []
    while waiting or running:
        while waiting and len(running) < min(options.jobs, MOST_JOBS):
            job = waiting.pop(0)
            start(job, built, binaries[job.members[0].binaries], accelerator.name, len(jobs) > 1, options.keep)
            running.append(job)
            for member in job.members:
                progress(f"{member.name}: {member.title} (budget {member.budget_minutes:g} min)")
        time.sleep(0.1)
        for job in [job for job in running if job.process is not None and job.process.poll() is not None]:
            running.remove(job)
            failed += finish(job, log)
    for text in failed:
        log.line(f"FAILED: {text}")
    count = sum(len(job.members) for job in jobs)
    log.line(f"{count - len(failed)} of {count} scenarios passed")
    return 1 if failed else 0


def start(job: Job, built: image.Image, binaries: Path, accelerator: str, several: bool, keep: bool) -> None:
    """Starts the driver process of a guest; its output is printed and kept."""
    shutil.rmtree(job.out, ignore_errors=True)  # there is none at first
    job.out.mkdir(parents=True)
    command = [
        *("setpriv", "--pdeathsig", "TERM", sys.executable, "-u", "-m", "ccvm.drive"),
        *("--image", str(built.folder), "--binaries", str(binaries), "--out", str(job.out)),
        *("--accelerator", accelerator, "--prefix", f"{job.name} " if several else ""),
        *(["--keep"] if keep else []),
        *[member.name for member in job.members],
    ]
    job.began = time.monotonic()
    job.process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    job.reader = threading.Thread(target=read, args=(job,))
    job.reader.start()


def read(job: Job) -> None:
    """Passes the driver's output on."""
    assert job.process is not None and job.process.stdout is not None
    with (job.out / "driver.log").open("w") as file:
        for line in job.process.stdout:
            job.text.append(line)
            file.write(line)
            file.flush()
            sys.stdout.write(line)
            sys.stdout.flush()


def finish(job: Job, log: Log) -> list[str]:
    """What failed of a job that ended, a line each."""
    assert job.process is not None and job.reader is not None
    job.reader.join()
    file = job.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    failed = []
    for member in job.members:
        reason: str | None = f"its driver ended with {job.process.returncode} before it"
        if member.name in results:
            reason = judge(member, results[member.name], "".join(job.text))
        if reason:
            failed.append(f"{member.name}: {reason}; {job.out}/driver.log")
    verdict = f"{job.name}: {'FAILED' if failed else 'ok'}, {time.monotonic() - job.began:.0f} s"
    log.line(verdict)
    progress(verdict)
    return failed


def progress(text: str) -> None:
    """A line for ./check, which keeps the rest in a log; $CC_CI_PROGRESS_FD is a descriptor that it left open."""
    descriptor = os.environ.get("CC_CI_PROGRESS_FD")
    if descriptor:
        os.write(int(descriptor), f"   {text}\n".encode())


def judge(member: Scenario, failure: str | None, output: str) -> str | None:
    """Why the scenario does not count as passed, or None. A twin must fail, and for the reason that it is there for."""
    if not member.must_fail:
        return failure
    if failure is None:
        return "it is a twin that must fail, and it passed"
    missing = [text for text in member.must_fail if text not in output]
    return f"it failed, as it must, but its output lacks {missing}" if missing else None


def end(job: Job) -> None:
    """Ends a driver that still runs, and with it its guest."""
    if job.process is not None and job.process.poll() is None:
        job.process.terminate()
        try:
            job.process.wait(20)
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
    if job.reader is not None:
        job.reader.join()


if __name__ == "__main__":
    sys.exit(main())
