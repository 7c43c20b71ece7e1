"""pm2: a node daemon that its command line starts; the command line's end is not waited for."""

import json
import pathlib

from .rig import Failed
from .tool import Tool


class Pm2(Tool):
    name = "pm2"
    note = "`pm2 start`, memory of its daemon; `max_restarts` raised, or it gives a child up after 16 quick deaths"
    period_s = 0.1

    def environment(self, folder: pathlib.Path) -> dict[str, str]:
        return super().environment(folder) | {"PM2_HOME": f"{folder}/pm2"}

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        apps = [
            {
                "name": name,
                "script": str(child),
                "args": [str(folder), name],
                "interpreter": "none",
                "max_restarts": 10000,
            }
            for name in names
        ]
        (folder / "ecosystem.config.js").write_text(f"module.exports = {json.dumps({'apps': apps})}\n")

    def command(self, folder: pathlib.Path) -> list[str]:
        return [self.program("pm2"), "start", f"{folder}/ecosystem.config.js"]

    def main_pid(self, folder: pathlib.Path, started: int) -> int:
        try:
            return int((folder / "pm2/pm2.pid").read_text())
        except (FileNotFoundError, ValueError) as error:
            raise Failed(f"pm2's daemon left no pid: {error}") from error
