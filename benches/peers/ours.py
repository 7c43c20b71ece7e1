"""This project's supervisor: one process, and a tmux server with its log's `cat` for each child."""

import argparse
import pathlib
import subprocess

from . import proc
from .bash_tmux import tmux_version
from .rig import Failed
from .tool import Run, Tool, parent

CONFIG = """workspace = "{0}"
state_dir = "{0}/state"
runtime_dir = "{0}/run"
host = "direct"
start_stagger = "0s"
"""
LOOP = """
[loops.{2}]
agent = "command"
command = ["{1}", "{0}", "{2}"]
workdir = "."
stable_after = "1s"
"""


class Ours(Tool):
    name = "ours"
    note = '`start_stagger = "0s"`, and `stable_after = "1s"` as in runit and supervisord'
    period_s = 0.1
    host = "the child's tmux server"

    def __init__(self, folder: pathlib.Path, args: argparse.Namespace) -> None:
        super().__init__(folder, args)
        self.binary = pathlib.Path(args.supervisor).resolve()

    def version(self) -> str:
        text = subprocess.run([self.binary, "--version"], capture_output=True, text=True, check=True).stdout
        return f"{text.split()[-1]}, {tmux_version()}"

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        text = CONFIG.format(folder) + "".join(LOOP.format(folder, child, name) for name in names)
        (folder / "supervisor.toml").write_text(text)

    def command(self, folder: pathlib.Path) -> list[str]:
        if not self.binary.exists():
            raise Failed(f"no {self.binary}: run `cargo build --release --locked`")
        return [str(self.binary), "run", "--config", f"{folder}/supervisor.toml"]

    def is_host(self, process: proc.Process, main: int) -> bool:
        # All but the daemon: the tmux servers and what copies their panes to the logs.
        return process.name == "tmux: server" or process.name == "cat"

    def host_of(self, run: Run, child: int) -> int | None:
        return parent(child)
