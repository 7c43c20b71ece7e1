"""circus: one Python process; its sockets are below the folder, by default they would be TCP ports."""

import pathlib

from .tool import Tool

CONFIG = """[circus]
endpoint = ipc://{0}/e
pubsub_endpoint = ipc://{0}/p
check_delay = 0.1
"""
WATCHER = """[watcher:{2}]
cmd = {1} {0} {2}
"""


class Circus(Tool):
    name = "circus"
    note = "`check_delay = 0.1`: it looks ten times a second; with its default it looks every 5 s"
    period_s = 0.1

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        text = CONFIG.format(folder) + "".join(WATCHER.format(folder, child, name) for name in names)
        (folder / "circus.ini").write_text(text)

    def command(self, folder: pathlib.Path) -> list[str]:
        return [self.program("circusd"), f"{folder}/circus.ini"]
