"""What a tool must say of itself to be measured, and one run of it."""

import argparse
import os
import pathlib
import shutil
import subprocess
import time

from . import proc
from .rig import Failed, Rig, Start, end_all


class Tool:
    """One way to keep processes running. A subclass writes its config and says how it is started."""

    name = ""
    # Configured as below; what differs from the tool's defaults is said in the table's notes.
    note = ""
    # A child that ran so long may be killed again: from then on no tool still counts its last death.
    stable_s = 1.5
    # The period of what it polls by: kills come at a random moment of it.
    period_s = 1.0
    # What `kill_host` ends, in words; empty if there is nothing between the tool and a child.
    host = ""

    def __init__(self, folder: pathlib.Path, args: argparse.Namespace) -> None:
        """`folder` is what install.sh fills, `args` the command line of the bench."""
        self.folder = folder
        root = folder / "root/usr"
        self.path = ":".join(
            [
                f"{root}/bin",
                f"{root}/sbin",
                f"{folder}/pm2/node_modules/.bin",
                f"{folder}/circus/bin",
                os.environ.get("PATH", "/usr/bin:/bin"),
            ]
        )

    def program(self, name: str) -> str:
        found = shutil.which(name, path=self.path)
        if found is None:
            reason = self.folder / f"{self.name}.missing"
            raise Failed("not here: " + (reason.read_text().strip() if reason.exists() else f"no `{name}`"))
        return found

    def version(self) -> str:
        file = self.folder / f"{self.name}.version"
        return file.read_text().strip() if file.exists() else "unknown, from PATH"

    def environment(self, folder: pathlib.Path) -> dict[str, str]:
        return {"PATH": self.path, "HOME": str(folder), "LANG": "C.UTF-8", "CC_BENCH": str(folder)}

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        """Writes the config for children `child FOLDER NAME`."""
        raise NotImplementedError

    def command(self, folder: pathlib.Path) -> list[str]:
        """What starts the tool, and starts it again after it was killed."""
        raise NotImplementedError

    def main_pid(self, folder: pathlib.Path, started: int) -> int:
        """The pid of the supervisor; `started` is that of `command`."""
        return started

    def is_host(self, process: proc.Process, main: int) -> bool:
        """Whether a process that is neither child nor supervisor holds a session, and is counted apart."""
        return False

    def host_of(self, run: "Run", child: int) -> int | None:
        """What stands between the supervisor and this child."""
        return None


class ServiceFolders(Tool):
    """runit and s6: a folder a service with a program `run` in it, and one monitor process for each."""

    stable_s = 1.5
    period_s = 0.0

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        for name in names:
            service = folder / "services" / name
            service.mkdir(parents=True)
            script = service / "run"
            script.write_text(f"#!/bin/sh\nexec '{child}' '{folder}' {name}\n")
            script.chmod(0o755)

    def host_of(self, run: "Run", child: int) -> int | None:
        return parent(child)


def parent(pid: int) -> int:
    text = (proc.PROC / str(pid) / "stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


class Run:
    """A tool that runs with `count` children. Everything of it has `mark` in its environment or command line."""

    def __init__(self, tool: Tool, rig: Rig, count: int) -> None:
        self.tool, self.rig = tool, rig
        self.names = [f"c{number}" for number in range(count)]
        self.folder = rig.new_folder(tool.name)
        self.mark = str(self.folder)
        self.started: list[subprocess.Popen[bytes]] = []
        self.last: dict[str, Start] = {}
        # Starts that came while another run was looked at.
        self.meanwhile: list[Start] = []
        rig.runs[self.mark] = self
        tool.write(self.folder, rig.child, self.names)

    def launch(self) -> None:
        with open(self.folder / "bench.log", "ab") as log:
            self.started.append(
                subprocess.Popen(
                    self.tool.command(self.folder),
                    cwd=self.folder,
                    env=self.tool.environment(self.folder),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def start_all(self, timeout: float = 120) -> float:
        """Starts the tool; seconds until each child has told that it runs."""
        begun = time.monotonic()
        self.launch()
        while len(self.last) < len(self.names):
            start = self.next_start(begun + timeout)
            if start is None:
                raise Failed(f"{len(self.last)} of {len(self.names)} ran after {timeout:.0f} s: {self.complaint()}")
        return max(start.at for start in self.last.values()) - begun

    def next_start(self, deadline: float) -> Start | None:
        """The next start of one of its children."""
        while start := self.rig.next_start(deadline):
            run = self.rig.runs[start.folder]
            run.last[start.name] = start
            if run is self:
                return start
            run.meanwhile.append(start)
        return None

    def check_quiet(self, seconds: float = 0) -> None:
        """No child is started for so long, and none was while other tools were looked at."""
        start = self.next_start(time.monotonic() + seconds) or next(iter(self.meanwhile), None)
        if start:
            raise Failed(f"`{start.name}` was started again although nothing killed it")

    def new_pid(self, name: str, timeout: float = 60) -> float:
        """When the successor of `name` told that it runs."""
        old = self.last[name].pid
        deadline = time.monotonic() + timeout
        while start := self.next_start(deadline):
            if start.name != name:
                raise Failed(f"`{start.name}` was started when `{name}` was killed")
            if start.pid != old:
                return start.at
        raise Failed(f"`{name}` was not back {timeout:.0f} s after a SIGKILL: {self.complaint()}")

    def main(self) -> int:
        return self.tool.main_pid(self.folder, self.started[-1].pid)

    def children(self) -> dict[str, list[int]]:
        """The living children by name, found by their environment and not by what they told."""
        found: dict[str, list[int]] = {name: [] for name in self.names}
        for process in proc.marked(f"CC_BENCH_CHILD={self.mark}/"):
            own = process.marks.split(f"CC_BENCH_CHILD={self.mark}/".encode(), 1)[1]
            found[own.split(b"\0", 1)[0].decode()].append(process.pid)
        return found

    def settled_children(self, timeout: float = 30) -> dict[str, list[int]]:
        """The same once two looks agree, and no child was between its word and its last program then: a shell, or in
        the middle of its exec, it does not have the environment that it is found by."""
        deadline = time.monotonic() + timeout
        found = self.children()
        while time.monotonic() < deadline:
            time.sleep(0.05)
            # In this order: what is neither now is seen by the next look.
            between = self.shells() or proc.any_in_exec()
            again = self.children()
            if again == found and not between:
                return found
            found = again
        raise Failed("its children come and go all the time")

    def shells(self) -> list[int]:
        """The children that are still the shell that tells of them."""
        command = f"\0\0/bin/sh\0{self.rig.child}\0{self.folder}\0".encode()
        return [process.pid for process in proc.marked(self.mark) if command in process.marks]

    def check_once(self) -> None:
        """Each child runs exactly once, and it is the one that told so last."""
        found = self.settled_children()
        wrong = [name for name in self.names if found[name] != [self.last[name].pid]]
        if wrong:
            some = ", ".join(f"{name}: {found[name]} and not [{self.last[name].pid}]" for name in wrong[:3])
            raise Failed(f"{len(wrong)} of {len(self.names)} children do not run exactly once ({some})")

    def processes(self) -> tuple[list[int], list[int]]:
        """The pids of the supervisor's own processes and those of its session hosts, children left out."""
        main = self.main()
        mine = [p for p in proc.marked(self.mark) if f"CC_BENCH_CHILD={self.mark}/".encode() not in p.marks]
        if main not in [process.pid for process in mine]:
            raise Failed(f"the supervisor's process {main} does not run: {self.complaint()}")
        hosts = [p.pid for p in mine if p.pid != main and self.tool.is_host(p, main)]
        return [process.pid for process in mine if process.pid not in hosts], hosts

    def settled(self, timeout: float = 30) -> tuple[list[int], list[int]]:
        """As `processes`, when two looks in a row saw the same: not in the midst of a short-lived one."""
        deadline = time.monotonic() + timeout
        seen = self.processes()
        while (now := self.processes()) != seen:
            if time.monotonic() > deadline:
                raise Failed("its processes come and go all the time")
            seen = now
        return seen

    def complaint(self) -> str:
        """The last line of what the tool said."""
        lines = (self.folder / "bench.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def end(self) -> None:
        """Ends the tool and all its children."""
        end_all(self.mark)
        for process in self.started:
            process.wait(20)
