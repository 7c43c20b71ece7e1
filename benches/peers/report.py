"""The results as markdown, and the part of README.md that they replace."""

import dataclasses
import datetime
import os
import pathlib
import platform
import re
import subprocess

from . import proc
from .extra import Extra
from .measure import Result, median, p90

BEGIN = "<!-- supervisors.py: begin -->"
END = "<!-- supervisors.py: end -->"


@dataclasses.dataclass
class Options:
    """How the bench ran."""

    argv: list[str]
    idle_s: float
    minutes: float


def markdown(results: list[Result], floor: list[float], extra: Extra | str, options: Options) -> str:
    """All of it. `extra` is a reason if there are no such figures."""
    counts = sorted({count for result in results for count in result.start})
    here = [result for result in results if result.start]
    parts = [
        machine(),
        versions(results),
        scope(options),
        settings(here),
        table(
            ["memory, PSS in MiB (session hosts apart)", *(f"N={count}" for count in counts)],
            [[result.tool.name, *(memory(result, count) for count in counts)] for result in here],
        ),
        table(
            ["start until all children run, ms", *(f"N={count}: median / 90 % (runs)" for count in counts)],
            [
                [result.tool.name, *(spread(result.start.get(count, []), 0, True) for count in counts)]
                for result in here
            ],
        ),
        table(
            [
                "SIGKILL of a child → its successor runs, ms",
                "after a stable while: median / 90 % (kills)",
                "killed again at once: median / 90 % (kills)",
            ],
            [["*bare fork and exec of the child*", spread(floor, 1, True), ""]]
            + [[result.tool.name, spread(result.first, 1, True), spread(result.again, 1, True)] for result in here],
        ),
        table(
            [
                f"idle for {options.idle_s:.0f} s, N=3",
                "CPU ms (+ reaped children)",
                "voluntary switches",
                "its session hosts",
            ],
            [[result.tool.name, *idle(result)] for result in here if result.idle],
        ),
        table(
            ["N=3", "supervisor SIGKILLed and started again", "what stands between it and a child SIGKILLed"],
            [[result.tool.name, result.supervisor_killed or "–", host_killed(result)] for result in here],
        ),
        ours_only(extra),
        table(["no figures, or not all", "why"], [[r.tool.name, r.failed] for r in results if r.failed]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Nothing without rows."""
    if not rows:
        return ""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, rule, *rows])


def spread(values: list[float], digits: int, number: bool = False) -> str:
    if not values:
        return "–"
    count = f" ({len(values)})" if number else ""
    return f"{median(values):.{digits}f} / {p90(values):.{digits}f}{count}"


def memory(result: Result, count: int) -> str:
    if count not in result.own_kib:
        return "–"
    own, hosts = median(result.own_kib[count]) / 1024, median(result.host_kib[count]) / 1024
    return f"{own:.2f}" + (f" (+ {hosts:.2f})" if hosts else "")


def idle(result: Result) -> list[str]:
    own, hosts = result.idle or proc.Usage(), result.idle_hosts or proc.Usage()
    cpu = f"{own.cpu_ms:.1f}" + (f" + {own.reaped_ms:.0f}" if own.reaped_ms else "")
    has_hosts = any(any(values) for values in result.host_kib.values())
    return [cpu, str(own.switches), f"{hosts.cpu_ms:.1f} ms, {hosts.switches} switches" if has_hosts else ""]


def host_killed(result: Result) -> str:
    return f"{result.tool.host}: {result.host_killed or 'not measured'}" if result.tool.host else ""


def ours_only(extra: Extra | str) -> str:
    if isinstance(extra, str):
        return extra and f"Ours only: not measured: {extra}"
    stripped = f"{extra.stripped} after strip(1)" if extra.stripped else "no strip(1) here"
    return (
        table(
            ["ours only, whole process", "median / 90 %, ms (runs)"],
            [
                ["*`/bin/true`, to compare*", spread(extra.spawn, 2, True)],
                [f"`status` with {extra.loops} loops", spread(extra.status, 2, True)],
                [f"`event`, daemon with {extra.loops} loops", spread(extra.event, 2, True)],
                ["`event`, daemon SIGKILLed", spread(extra.event_alone, 2, True)],
            ],
        )
        + f"\n\nThe release binary: {extra.binary / 1e6:.2f} MB ({extra.binary} bytes as built, {stripped})."
    )


def machine() -> str:
    model = first(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo") or platform.machine()
    memory_kib = int(first(r"^MemTotal:\s+(\d+) kB$", "/proc/meminfo") or 0)
    system = (first(r'^PRETTY_NAME="?([^"\n]+)"?$', "/etc/os-release") or "Linux").strip()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{now}, commit {commit()}; {os.cpu_count()} × {model}, {memory_kib / 2**20:.0f} GiB, {system}, "
        f"Linux {platform.release()}; load average at the end (the bench included): {load}."
    )


def versions(results: list[Result]) -> str:
    return "Versions: " + "; ".join(f"{r.tool.name} {r.version}" for r in results if r.version) + "."


def scope(options: Options) -> str:
    words = " ".join(["benches/supervisors.py", *options.argv])
    return f"`{words}`, it took {options.minutes:.0f} minutes."


def settings(results: list[Result]) -> str:
    notes = "; ".join(f"{result.tool.name}: {result.tool.note}" for result in results if result.tool.note)
    return f"Settings, where not the defaults: {notes}." if notes else ""


def commit() -> str:
    """The last one that changed what the binary is built from."""
    root = pathlib.Path(__file__).resolve().parents[2]
    sources = ["--", "src", "Cargo.toml", "Cargo.lock"]
    try:
        last, changed = (
            subprocess.run(
                ["git", *command, *sources], cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["log", "-1", "--format=%h"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return last + (" with changes" if changed else "")


def first(pattern: str, path: str) -> str | None:
    found = re.search(pattern, pathlib.Path(path).read_text(), re.M)
    return found[1] if found else None


def replace_part(readme: pathlib.Path, text: str) -> None:
    """Puts `text` between the markers of `readme`. Refuses a file that has not each of them once, in order."""
    old = readme.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        raise SystemExit(
            f"supervisors.py: replace the results in `{readme}`: it must have `{BEGIN}`, then `{END}`, each once"
        )
    head, tail = old[: old.index(BEGIN) + len(BEGIN)], old[old.index(END) :]
    new = readme.with_name(f".{readme.name}.{os.getpid()}")
    new.write_text(f"{head}\n\n{text}\n{tail}")
    new.replace(readme)
