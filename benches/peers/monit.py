"""monit: one process that looks at pid files in cycles, here of a second, its shortest."""

import pathlib

from .tool import Tool

CONFIG = """set daemon 1
set pidfile {0}/monit.pid
set idfile {0}/monit.id
set statefile {0}/monit.state
set logfile {0}/monit.log
"""
CHECK = """check process {1} with pidfile {0}/{1}.pid
  start program = "{0}/start {1}" with timeout 1 second
"""
# monit wants a program that ends and leaves a pid file.
START = """#!/bin/sh
'{1}' '{0}' "$1" </dev/null >/dev/null 2>&1 &
echo $! >'{0}'/"$1".pid
"""


class Monit(Tool):
    name = "monit"
    note = "`set daemon 1` and `with timeout 1 second`, the shortest"

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        config = folder / "monitrc"
        config.write_text(CONFIG.format(folder) + "".join(CHECK.format(folder, name) for name in names))
        config.chmod(0o600)
        start = folder / "start"
        start.write_text(START.format(folder, child))
        start.chmod(0o755)

    def command(self, folder: pathlib.Path) -> list[str]:
        return [self.program("monit"), "-I", "-c", f"{folder}/monitrc"]
