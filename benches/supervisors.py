#!/usr/bin/env python3
"""Our supervisor and its peers with the same trivial child, side by side in one run.

benches/README.md says what is measured and how. Everything runs in one temporary folder, from which the processes are
known; all of them are ended by pidfd at the end, also after a failure or a signal. Needs Linux 5.4, Python 3.10.
"""

import argparse
import pathlib
import random
import signal
import subprocess
import sys
import time

from peers import ALL, Ours, extra, measure, report
from peers.measure import Result, say
from peers.reaper import under_reaper
from peers.rig import Failed, Rig

HERE = pathlib.Path(__file__).resolve().parent


def arguments(argv: list[str]) -> argparse.Namespace:
    names = [tool.name for tool in ALL]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TOOL", choices=names, help=f"these: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="few rounds, N = 3 and 10, idle for 5 s: whether it works")
    parser.add_argument("--kills", type=int, metavar="N", help="kills of each kind and tool [20]")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="how long they idle, 0 for not at all [60]")
    parser.add_argument("--markdown", action="store_true", help="the tables on stdout only, no progress on stderr")
    parser.add_argument("--readme", action="store_true", help="put the tables into benches/README.md as well")
    binary = HERE.parent / "target/release/supervisor"
    parser.add_argument("--supervisor", default=binary, metavar="FILE", help="our binary")
    peers = HERE.parent / ".cache/peers"
    parser.add_argument(
        "--peers", type=pathlib.Path, default=peers, metavar="FOLDER", help="where install.sh puts them"
    )
    parser.add_argument("--no-install", action="store_true", help="take what is there; do not run install.sh first")
    args = parser.parse_args(argv)
    args.kills = args.kills or (3 if args.quick else 20)
    args.idle = (5 if args.quick else 60) if args.idle is None else args.idle
    args.rounds = {3: 1, 10: 1} if args.quick else {3: 5, 10: 3, 100: 3}
    return args


def known(args: argparse.Namespace) -> list[Result]:
    """One for each tool that is wanted; those that are not here say why."""
    results = []
    for kind in ALL:
        if args.only and kind.name not in args.only:
            continue
        tool = kind(args.peers.resolve(), args)
        result = Result(tool)
        with measure.guarded(result):
            tool.command(pathlib.Path("/nowhere"))
            result.version = tool.version()
        results.append(result)
    return results


def compare(results: list[Result], rig: Rig, args: argparse.Namespace) -> None:
    """The measurements in which all take part."""
    measure.sizes(results, rig, args.rounds, settle_s=2)
    runs = measure.begin(results, rig, 3)
    try:
        measure.kills(runs, args.kills, random.Random(1055))
        if args.idle:
            measure.idle(runs, args.idle)
        measure.supervisors_killed(runs, rig)
    finally:
        for _, run in runs:
            run.end()
    runs = measure.begin([result for result in results if result.tool.host], rig, 3)
    try:
        measure.hosts_killed(runs, rig)
    finally:
        for _, run in runs:
            run.end()


def ours_alone(results: list[Result], rig: Rig, args: argparse.Namespace) -> extra.Extra | str:
    for result in results:
        if isinstance(result.tool, Ours):
            try:
                return extra.measure(result.tool, rig, loops=max(args.rounds), rounds=10 if args.quick else 50)
            except (Failed, OSError, subprocess.CalledProcessError) as error:
                say(f"ours only: {error}")
                return str(error)
    return ""


def bench(args: argparse.Namespace, argv: list[str]) -> int:
    measure.quiet = args.markdown
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C: everything that was started is ended.
        signal.signal(number, lambda *_: sys.exit("supervisors.py: ended by a signal"))
    if not args.no_install:
        say("install.sh")
        subprocess.run([HERE / "install.sh", args.peers], stdout=subprocess.DEVNULL, check=True)
    begun = time.monotonic()
    results = known(args)
    rig = Rig()
    try:
        floor = rig.floor(args.kills)
        compare(results, rig, args)
        more = ours_alone(results, rig, args)
    finally:
        rig.remove()
    options = report.Options(argv, args.idle, (time.monotonic() - begun) / 60)
    text = report.markdown(results, floor, more, options)
    print(text, end="")
    if args.readme:
        report.replace_part(HERE / "README.md", text)
    # A peer that cannot be had is told in the table and fails nothing; one that ran and went wrong does.
    return 1 if any(result.failed and result.version for result in results) or (isinstance(more, str) and more) else 0


if __name__ == "__main__":
    parsed = arguments(sys.argv[1:])
    sys.exit(under_reaper(lambda: bench(parsed, sys.argv[1:])))
