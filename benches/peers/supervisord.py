"""supervisord: one Python process that polls once a second."""

import pathlib
import sys

from .tool import Tool

CONFIG = """[supervisord]
nodaemon=true
logfile={0}/log
pidfile={0}/pid
childlogdir={0}
[unix_http_server]
file={0}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """[program:{2}]
command={1} {0} {2}
autorestart=true
"""


class Supervisord(Tool):
    name = "supervisord"
    note = "`autorestart=true`"

    def environment(self, folder: pathlib.Path) -> dict[str, str]:
        return super().environment(folder) | {"PYTHONPATH": str(self.folder / "root/usr/lib/python3/dist-packages")}

    def write(self, folder: pathlib.Path, child: pathlib.Path, names: list[str]) -> None:
        text = CONFIG.format(folder) + "".join(PROGRAM.format(folder, child, name) for name in names)
        (folder / "conf").write_text(text)

    def command(self, folder: pathlib.Path) -> list[str]:
        # Debian's Python, as the package has it.
        python = "/usr/bin/python3" if pathlib.Path("/usr/bin/python3").exists() else sys.executable
        return [python, self.program("supervisord"), "-c", f"{folder}/conf"]
