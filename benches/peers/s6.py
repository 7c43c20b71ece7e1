"""s6: `s6-svscan`, and an `s6-supervise` for each service."""

import pathlib

from .tool import ServiceFolders


class S6(ServiceFolders):
    name = "s6"
    note = "its own processes are `s6-svscan` and one `s6-supervise` a child"
    host = "the child's `s6-supervise`"

    def command(self, folder: pathlib.Path) -> list[str]:
        self.program("s6-supervise")
        return [self.program("s6-svscan"), f"{folder}/services"]
