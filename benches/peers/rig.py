"""The rig of one run: a temporary folder, the child that all tools keep, and the pipe by which its starts are told.

The child writes its pid to a FIFO and becomes `sleep`. The bench waits in poll(2) and takes the time when the line
arrives: nothing is polled, so nothing is rounded up to an interval.
"""

import dataclasses
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time
import typing

from . import proc

if typing.TYPE_CHECKING:
    from .tool import Run

CHILD = """#!/bin/sh
# usage: child.sh FOLDER NAME
CC_BENCH_CHILD=$1/$2
export CC_BENCH_CHILD
echo "$1 $2 $$" >'{fifo}'
exec sleep 86400
"""


class Failed(Exception):
    """A tool did not do what it must: the row says so."""


@dataclasses.dataclass(frozen=True)
class Start:
    """A child told that it runs. `at` is of time.monotonic()."""

    folder: str
    name: str
    pid: int
    at: float


class Rig:
    """Owns the folder, the pipe and the end of everything that was started below them."""

    def __init__(self) -> None:
        # Short: sockets in it must fit in 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ccb.", dir="/tmp"))
        self.child = self.folder / "child.sh"
        fifo = self.folder / "starts"
        os.mkfifo(fifo, 0o600)
        # For reading and writing: then no child waits in open(2), and there is no end of file between two of them.
        self._fifo = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._rest = b""
        self._starts: list[Start] = []
        self._count = 0
        # By their folder: whose starts are told through the pipe. Each Run puts itself here.
        self.runs: dict[str, Run] = {}
        self.child.write_text(CHILD.format(fifo=fifo))
        self.child.chmod(0o755)

    def new_folder(self, name: str) -> pathlib.Path:
        """A folder of its own for one run of a tool; its path is the mark of what belongs to it."""
        self._count += 1
        folder = self.folder / f"{name}.{self._count}"
        folder.mkdir()
        return folder

    def next_start(self, deadline: float) -> Start | None:
        """The next start that was told, None at the deadline (of time.monotonic())."""
        while not self._starts:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            poll = select.poll()
            poll.register(self._fifo, select.POLLIN)
            if not poll.poll(left * 1000):
                continue
            data = self._rest + os.read(self._fifo, 65536)
            at = time.monotonic()
            *lines, self._rest = data.split(b"\n")
            for line in lines:
                folder, name, pid = line.decode().split(" ")
                self._starts.append(Start(folder, name, int(pid), at))
        return self._starts.pop(0)

    def remove(self) -> None:
        """Ends all that is left, and removes the folder."""
        end_all(str(self.folder))
        os.close(self._fifo)
        shutil.rmtree(self.folder, ignore_errors=True)

    def floor(self, rounds: int) -> list[float]:
        """What it takes at least: the bench itself starts the child. Milliseconds."""
        took = []
        folder = self.new_folder("floor")
        for number in range(rounds):
            begun = time.monotonic()
            child = subprocess.Popen([self.child, folder, f"c{number}"], stdin=subprocess.DEVNULL)
            start = self.next_start(begun + 10)
            if start is None or start.pid != child.pid:
                raise Failed("the child that the bench started did not tell its pid")
            took.append((start.at - begun) * 1000)
            child.kill()
            child.wait()
        return took


def end_all(mark: str) -> None:
    """Kills everything with the mark until nothing is left: supervisors start children as long as they live."""
    deadline = time.monotonic() + 20
    # Twice: one that just becomes another program has no mark for a moment.
    while left := proc.marked(mark) or marked_after_exec(mark, deadline):
        if time.monotonic() > deadline:
            raise Failed("could not be ended: " + ", ".join(f"{p.pid} ({p.name})" for p in left))
        for process in left:
            proc.kill(process.pid, mark)
        # Killed is not yet gone.
        time.sleep(0.01)


def marked_after_exec(mark: str, deadline: float) -> list[proc.Process]:
    """As `proc.marked`, when whatever was in the midst of execve(2) has become its new program."""
    time.sleep(0.02)
    while proc.any_in_exec() and time.monotonic() < deadline:
        time.sleep(0.001)
    return proc.marked(mark)
