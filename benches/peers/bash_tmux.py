"""The naive rig: a shell loop that looks every 5 s whether each tmux session is there, and makes it anew."""

import pathlib
import subprocess

from . import proc
from .tool import Run, Tool, parent

WATCH = """#!/bin/bash
while :; do
    for name in {names}; do
        tmux -S '{folder}/tmux' has-session -t "=$name" 2>/dev/null ||
            tmux -S '{folder}/tmux' -f /dev/null new-session -d -s "$name" '{child}' '{folder}' "$name"
    done
    sleep 5
done
"""


class BashTmux(Tool):
    name = "bash+tmux"
    note = "looks every 5 s; one tmux server for all, counted as session host"
    period_s = 5.0
    host = "its tmux server"

    def version(self) -> str:
        bash = subprocess.run(["bash", "-c", "echo $BASH_VERSION"], capture_output=True, text=True, check=True).stdout
        return f"bash {bash.split('(')[0].strip()}, {tmux_version()}"

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        (folder / "watch.sh").write_text(WATCH.format(folder=folder, child=child, names=" ".join(names)))

    def command(self, folder: pathlib.Path) -> list[str]:
        self.program("tmux")
        return [self.program("bash"), f"{folder}/watch.sh"]

    def is_host(self, process: proc.Process, main: int) -> bool:
        return process.name == "tmux: server"

    def host_of(self, run: Run, child: int) -> int | None:
        return parent(child)


def tmux_version() -> str:
    return subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=True).stdout.strip()
