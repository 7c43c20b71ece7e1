"""What is measured of the tools, one after the other or in turns, and what came out."""

import collections.abc
import dataclasses
import random
import statistics
import subprocess
import sys
import time

from . import proc
from .rig import Failed, Rig
from .tool import Run, Tool

# After this long without a start, nothing more comes: the slowest tool looks every 5 s.
QUIET_S = 7.0


@dataclasses.dataclass
class Result:
    """Of one tool. Times in milliseconds, memory in KiB."""

    tool: Tool
    version: str = ""
    # Why there are no (more) figures.
    failed: str = ""
    start: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    own_kib: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    host_kib: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    first: list[float] = dataclasses.field(default_factory=list)
    again: list[float] = dataclasses.field(default_factory=list)
    idle: proc.Usage | None = None
    idle_hosts: proc.Usage | None = None
    supervisor_killed: str = ""
    host_killed: str = ""


quiet = False


def say(text: str) -> None:
    """Progress."""
    if not quiet:
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class guarded:
    """A tool that fails is out, with the reason; the others go on."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, (Failed, OSError, subprocess.SubprocessError)):
            return False
        self.result.failed = str(error)
        say(f"{self.result.tool.name}: {error}")
        return True


def each(results: list[Result]) -> collections.abc.Iterator[Result]:
    """Those that did not fail yet."""
    return (result for result in results if not result.failed)


def sizes(results: list[Result], rig: Rig, rounds: dict[int, int], settle_s: float) -> None:
    """Start of all and memory, each tool alone on the rig, in turns."""
    for count, times in rounds.items():
        for number in range(times):
            say(f"start and memory with {count} children, round {number + 1} of {times}")
            for result in each(results):
                with guarded(result):
                    size_once(result, rig, count, settle_s)


def size_once(result: Result, rig: Rig, count: int, settle_s: float) -> None:
    run = Run(result.tool, rig, count)
    try:
        took = run.start_all()
        run.check_quiet(settle_s)
        run.check_once()
        own, hosts = (sum(map(proc.pss_kib, pids)) for pids in run.settled())
        result.start.setdefault(count, []).append(took * 1000)
        result.own_kib.setdefault(count, []).append(own)
        result.host_kib.setdefault(count, []).append(hosts)
    finally:
        run.end()


def begin(results: list[Result], rig: Rig, count: int) -> list[tuple[Result, Run]]:
    """All tools at once, `count` children each."""
    runs = []
    for result in each(results):
        with guarded(result):
            run = Run(result.tool, rig, count)
            runs.append((result, run))
            run.start_all()
    return runs


def alive(runs: list[tuple[Result, Run]]) -> collections.abc.Iterator[tuple[Result, Run]]:
    return ((result, run) for result, run in runs if not result.failed)


def kills(runs: list[tuple[Result, Run]], rounds: int, rng: random.Random) -> None:
    """In each round every tool has one child killed, and its successor at once. All other tools idle meanwhile."""
    for number in range(rounds):
        say(f"SIGKILL of a child, round {number + 1} of {rounds}")
        for result, run in alive(runs):
            with guarded(result):
                name = run.names[number % len(run.names)]
                # All are left alone until the last death counts no more, and then hit at a random moment.
                stable = max(start.at for start in run.last.values()) + run.tool.stable_s
                run.check_quiet(max(stable - time.monotonic(), 0) + rng.uniform(0, run.tool.period_s))
                result.first.append(kill_child(run, name))
                result.again.append(kill_child(run, name))
    for result, run in alive(runs):
        with guarded(result):
            run.check_quiet(run.tool.stable_s)
            run.check_once()


def kill_child(run: Run, name: str) -> float:
    """Milliseconds from the SIGKILL to the word of its successor."""
    sent = proc.kill(run.last[name].pid, run.mark)
    if sent is None:
        raise Failed(f"`{name}` had ended before it was killed")
    return (run.new_pid(name) - sent) * 1000


def idle(runs: list[tuple[Result, Run]], seconds: float) -> None:
    """All tools in the same minute: they do nothing that could disturb the others."""
    say(f"idle for {seconds:.0f} s")
    before: dict[str, list[dict[int, proc.Usage]]] = {}
    for result, run in alive(runs):
        with guarded(result):
            before[run.mark] = [{pid: proc.usage(pid) for pid in pids} for pids in run.settled()]
    time.sleep(seconds)
    for result, run in alive(runs):
        with guarded(result):
            own, hosts = (used_since(usages) for usages in before[run.mark])
            run.check_quiet()
            run.check_once()
            result.idle, result.idle_hosts = own, hosts


def used_since(before: dict[int, proc.Usage]) -> proc.Usage:
    """By those that still live; those that ended are in what their parents reaped."""
    total = proc.Usage()
    for pid, usage in before.items():
        try:
            total += proc.usage(pid) - usage
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def supervisors_killed(runs: list[tuple[Result, Run]], rig: Rig) -> None:
    """SIGKILL of every supervisor, a second of nothing, the same command again."""
    say("SIGKILL of the supervisors, and started again")
    before = children_checked(runs)
    for result, run in alive(runs):
        with guarded(result):
            if proc.kill(run.main(), run.mark) is None:
                raise Failed("the supervisor had ended before it was killed")
            # Reaped, or its pid file names a process that is still there. (pm2's command has ended long since.)
            run.started[-1].wait(20)
    until_quiet(rig, 1.0)
    for result, run in alive(runs):
        with guarded(result):
            run.launch()
    until_quiet(rig, QUIET_S)
    for result, run in alive(runs):
        with guarded(result):
            run.processes()
            result.supervisor_killed = outcome(before[run.mark], run.children())


def hosts_killed(runs: list[tuple[Result, Run]], rig: Rig) -> None:
    """SIGKILL of what stands between a supervisor and its first child."""
    say("SIGKILL of a child's monitor or tmux server")
    before = children_checked(runs)
    for result, run in alive(runs):
        with guarded(result):
            host = run.tool.host_of(run, run.last[run.names[0]].pid)
            if host is None or host == run.main() or proc.kill(host, run.mark) is None:
                raise Failed(f"{run.tool.host} was not found")
    until_quiet(rig, QUIET_S)
    for result, run in alive(runs):
        result.host_killed = outcome(before[run.mark], run.children())


def children_checked(runs: list[tuple[Result, Run]]) -> dict[str, dict[str, list[int]]]:
    before = {}
    for result, run in alive(runs):
        with guarded(result):
            run.check_once()
            before[run.mark] = run.children()
    return before


def until_quiet(rig: Rig, seconds: float, longest_s: float = 60) -> None:
    """Until no child was started for so long."""
    end = time.monotonic() + longest_s
    while start := rig.next_start(min(time.monotonic() + seconds, end)):
        rig.runs[start.folder].last[start.name] = start


def outcome(before: dict[str, list[int]], after: dict[str, list[int]]) -> str:
    """In words: which children live on, which run twice, which are gone."""
    kept = sum(pid in after[name] for name, pids in before.items() for pid in pids)
    more = sum(max(len(pids) - 1, 0) for pids in after.values())
    gone = sum(not pids for pids in after.values())
    renewed = len(after) - kept - gone
    words = [f"keeps {kept}"] if kept else []
    words += [f"{renewed} ended and run anew"] if renewed else []
    words += [f"**starts {more} more**"] if more else []
    words += [f"**{gone} are gone**"] if gone else []
    return ", ".join(words)


def p90(values: list[float]) -> float:
    """The nearest rank: nine tenths are at most this."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * 9 // 10) - 1]


median = statistics.median
