"""What /proc says of processes: whose they are, their memory, CPU time and switches. Ends processes by pidfd."""

import dataclasses
import os
import pathlib
import re
import select
import signal
import time

PROC = pathlib.Path("/proc")
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Process:
    """A process that lived when it was looked at. `marks` is its environment and command line as bytes."""

    pid: int
    name: str
    marks: bytes


@dataclasses.dataclass(frozen=True)
class Usage:
    """CPU of the process, CPU of its reaped children (in steps of a clock tick), voluntary context switches."""

    cpu_ms: float = 0
    reaped_ms: float = 0
    switches: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_ms + other.cpu_ms, self.reaped_ms + other.reaped_ms, self.switches + other.switches)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_ms - other.cpu_ms, self.reaped_ms - other.reaped_ms, self.switches - other.switches)


def look(pid: int) -> Process | None:
    """None if it is gone, a zombie or a kernel thread: these have no command line."""
    folder = PROC / str(pid)
    try:
        command = (folder / "cmdline").read_bytes()
        if not command:
            return None
        marks = (folder / "environ").read_bytes() + b"\0\0" + command
        return Process(pid, (folder / "comm").read_text().strip(), marks)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def is_in_exec(pid: int) -> bool:
    """Whether it is in the midst of execve(2): then nothing shows yet whose it is."""
    folder = PROC / str(pid)
    try:
        if (folder / "environ").read_bytes():
            return False
        # From the third field on, proc_pid_stat(5): the name before it may have spaces and brackets.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    state, memory, environment_end = fields[0], int(fields[20]), int(fields[48])
    # A kernel thread has no memory, and an empty environment has an end as well.
    return state not in "ZX" and memory > 0 and environment_end == 0


def any_in_exec() -> bool:
    return any(is_in_exec(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())


def marked(mark: str) -> list[Process]:
    """All processes with `mark` in their environment or command line."""
    found = (look(int(entry.name)) for entry in PROC.iterdir() if entry.name.isdigit())
    return [process for process in found if process and mark.encode() in process.marks]


def pss_kib(pid: int) -> int:
    """Its share of the memory it uses: pages that it shares are divided among those that share them."""
    return number(r"^Pss:\s+(\d+) kB$", PROC / str(pid) / "smaps_rollup")


def number(pattern: str, file: pathlib.Path) -> int:
    """The number that `pattern` captures."""
    found = re.search(pattern, file.read_text(), re.M)
    if found is None:
        raise OSError(f"reading `{file}`: nothing is like `{pattern}`; this kernel is not known")
    return int(found[1])


def usage(pid: int) -> Usage:
    """Of all its threads, since it began."""
    folder = PROC / str(pid)
    cpu_ms, switches = 0.0, 0
    for task in (folder / "task").iterdir():
        cpu_ms += int((task / "schedstat").read_text().split()[0]) / 1e6
        switches += number(r"^voluntary_ctxt_switches:\s+(\d+)$", task / "status")
    # The name may have spaces and brackets; cutime and cstime are fields 16 and 17.
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Usage(cpu_ms, (int(fields[13]) + int(fields[14])) * TICK_MS, switches)


def kill(pid: int, mark: str) -> float | None:
    """SIGKILL, if the process has `mark`: when it was sent, in seconds of time.monotonic(). None if it had ended.

    The pidfd comes first, so that the pid cannot pass to another process meanwhile.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        process = look(pid)
        # In the midst of execve(2) it has neither environment nor command line for some microseconds.
        while process is None and lives(fd):
            process = look(pid)
        if process is None or mark.encode() not in process.marks:
            return None
        sent = time.monotonic()
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return sent
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)


def lives(pidfd: int) -> bool:
    """A pidfd becomes readable when its process ends."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
