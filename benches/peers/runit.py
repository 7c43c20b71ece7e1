"""runit: `runsvdir`, and a `runsv` for each service."""

import pathlib

from .tool import ServiceFolders


class Runit(ServiceFolders):
    name = "runit"
    note = "its own processes are `runsvdir` and one `runsv` a child"
    host = "the child's `runsv`"

    def command(self, folder: pathlib.Path) -> list[str]:
        self.program("runsv")
        return [self.program("runsvdir"), f"{folder}/services"]
