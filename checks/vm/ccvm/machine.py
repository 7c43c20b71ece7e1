"""`machine`: a guest that is started, rebooted and cut off. Its names, arguments and results are the NixOS driver's;
`reset`, `power_cut` and `crash_ways` are additions, which scripts that must run under both do not use.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from .commands import Commands
from .errors import MachineError
from .log import Log
from .qemu import Hardware, Process, wait_for_socket
from .shell import Ready, Shell
from .units import retry

# How long a guest may take from power-on to its shell. It takes 13 s on two idle cores, and took 300 s on two that had
# ten other things to do.
BOOT_SECONDS = 900
# What a command with a time limit may take beyond it, before the guest is called dead.
GRACE_SECONDS = 60


class Machine(Commands):
    """One guest."""

    def __init__(
        self, name: str, hardware: Hardware, log: Log, out_dir: Path, crash_ways: tuple[str, ...] = ("quit",)
    ) -> None:
        self.name = name
        self.hardware = hardware
        self.log_book = log
        self.out_dir = out_dir
        self.crash_ways = self.cycle(crash_ways)
        self.process: Process | None = None
        self.shell: Shell | None = None
        self.qmp: QEMUMonitorProtocol | None = None
        self.booted = False
        self.connected = False
        # Reset and paused: powered off as far as a script can see.
        self.halted = False
        # How it was cut off last, for a scenario's report.
        self.last_crash = "never"
        self.boot: Ready | None = None
        self.powered_on = time.monotonic()
        self.console_offset = 0
        self.console_seen = 0

    @staticmethod
    def cycle(ways: tuple[str, ...]) -> Iterator[str]:
        """Each in turn, again and again."""
        return itertools.cycle(ways)

    # Power.

    def start(self, allow_reboot: bool = False) -> None:
        """Powers the guest on and does not wait for its boot. Without `allow_reboot` a reboot powers it off."""
        if self.booted:
            return
        self.console_offset = self.console_seen = len(self._console_bytes())
        self.powered_on = time.monotonic()
        if self.halted:
            self.log(f"{self.name}: power on, after a reset")
            self._qmp("cont")
            self.halted, self.booted = False, True
            return
        folder = self.hardware.folder
        for name in ("shell", "qmp"):
            (folder / name).unlink(missing_ok=True)
        self.process = Process(self.hardware.command(allow_reboot), self.out_dir / f"qemu-{self.name}.log")
        if not all(wait_for_socket(folder / name, self.process) for name in ("shell", "qmp")):
            raise MachineError(f"starting QEMU: it made no sockets; {self.process.tell()}")
        self.shell = Shell.connect(folder / "shell", self.process.tell)
        self.qmp = QEMUMonitorProtocol(str(folder / "qmp"))
        self.qmp.connect()
        self.booted = True
        self.log(f"{self.name}: power on, QEMU pid {self.process.child.pid}, {self.hardware.accelerator.name}")

    def connect(self) -> None:
        """Waits for the guest's root shell, which every command does by itself."""
        if self.connected:
            return
        with self.log_book.nested("waiting for the VM to finish booting"):
            self.start()
            assert self.shell is not None
            before = self.boot.boot_id if self.boot else None
            self.boot = self.shell.wait_ready(time.monotonic() + BOOT_SECONDS, before)
            self.connected = True
            self.log(
                f"{self.name}: shell {time.monotonic() - self.powered_on:.1f} s after power on, "
                f"{self.boot.uptime:.1f} s after the kernel's start, boot {self.boot.boot_id}"
            )

    def is_up(self) -> bool:
        return self.booted and self.connected

    def shutdown(self) -> None:
        """Powers the guest off by its own `poweroff` and waits until it is."""
        if not self.booted:
            return
        self.connect()
        assert self.shell is not None
        self.log(f"{self.name}: poweroff")
        self.shell.send("systemctl poweroff", None)
        self.wait_for_shutdown()

    def wait_for_shutdown(self) -> None:
        """Waits until the guest is powered off; starts nothing."""
        if not self.booted:
            return
        with self.log_book.nested("waiting for the VM to power off"):
            assert self.process is not None
            self.process.child.wait()
        self._off()

    def reboot(self) -> None:
        """The guest's own `reboot`; the next command waits for its shell to be back."""
        self.connect()
        assert self.shell is not None
        self.log(f"{self.name}: reboot")
        self.powered_on = time.monotonic()
        self.shell.send("systemctl reboot", None)
        self.connected = False

    def crash(self) -> None:
        """Powers the guest off with no warning. How is the scenario's to say (`crash` in scenario.toml, used in turn):
        `quit`: QEMU ends, as under the NixOS driver: what the guest had not written to its disk is lost.
        `reset`: a reset by QMP; loses the same, and the disk's own cache is kept as it was.
        `kill`: SIGKILL of QEMU; what the disk had not been told to flush is lost too."""
        if not self.booted:
            return
        way = self.last_crash = next(self.crash_ways)
        self.log(f"{self.name}: forced crash by {way}")
        if way == "kill":
            self.power_cut()
        elif way == "reset":
            # Paused, so that it is off until it is started.
            self._qmp("stop")
            self._qmp("system_reset")
            self.booted = self.connected = False
            self.halted = True
        else:
            with contextlib.suppress(MachineError):
                # It may be gone before it answers.
                self._qmp("quit")
            self.wait_for_shutdown()

    def reset(self) -> None:
        """Presses the reset button: the guest boots again at once."""
        self.log(f"{self.name}: reset")
        self.powered_on = time.monotonic()
        self._qmp("system_reset")
        self.connected = False

    def power_cut(self) -> None:
        """Kills QEMU: what the guest had written, but not flushed, need not be on the disk."""
        if self.process is None:
            return
        self.process.kill()
        self._off()

    def release(self) -> None:
        """Ends the guest, whatever state it is in."""
        self.power_cut()

    def _off(self) -> None:
        if self.shell is not None:
            self.shell.close()
        if self.qmp is not None:
            with contextlib.suppress(QMPError, OSError, EOFError):
                # Its other end is gone, which is no news.
                self.qmp.close()
        self.process = self.shell = self.qmp = None
        self.booted = self.connected = self.halted = False

    def _qmp(self, command: str, **arguments: object) -> object:
        if self.qmp is None or self.process is None:
            raise MachineError(f"{self.name} is powered off: `{command}` cannot be sent to QEMU")
        try:
            return self.qmp.cmd(command, **arguments)
        except (QMPError, OSError, EOFError) as error:
            raise MachineError(f"sending `{command}` to QEMU: {error}; {self.process.tell()}") from error

    # Network.

    def block(self) -> None:
        """Pulls the plug of the network between the nodes (eth1)."""
        self._qmp("set_link", name="nic1", up=False)

    def unblock(self) -> None:
        """Puts the plug back."""
        self._qmp("set_link", name="nic1", up=True)

    # Commands.

    def run_raw(self, command: str, timeout: int | None, stdin: bytes = b"") -> tuple[int, bytes]:
        self.connect()
        assert self.shell is not None
        deadline = None if timeout is None else time.monotonic() + timeout + GRACE_SECONDS
        try:
            return self.shell.run(command, timeout, deadline, stdin)
        except MachineError:
            # What it answers later would be taken for another command's.
            self.connected = False
            raise

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = 900
    ) -> tuple[int, str]:
        """Runs a command by root's bash with `set -euo pipefail`; its exit status and standard output. Standard error
        is on the console. Waits until everybody has closed the output. After `timeout` seconds the status is 124.
        Without `check_output` it does not wait at all."""
        if not check_output:
            self.connect()
            assert self.shell is not None
            self.shell.send(command, timeout)
            return -2, ""
        status, output = self.run_raw(command, timeout)
        return (status if check_return else -1), output.decode(errors="replace")

    # Console.

    def log(self, message: str) -> None:
        """Prints a line among the driver's."""
        self.log_book.line(message)

    def nested(self, message: str, _attributes: object = None) -> contextlib.AbstractContextManager[None]:
        return self.log_book.nested(message)

    def _console_bytes(self) -> bytes:
        path = self.hardware.console
        # Offsets count bytes, so carriage returns go here.
        return path.read_bytes().replace(b"\r", b"") if path.exists() else b""

    def get_console_log(self) -> str:
        """The console's output since the guest was started."""
        return self._console_bytes()[self.console_offset :].decode(errors="replace")

    def wait_for_console_text(self, regex: str, timeout: int | None = None) -> None:
        """Waits until the console's output has it; what an earlier wait has found is not looked at again."""
        pattern = re.compile(regex)

        def seen(_last: bool) -> bool:
            text = self._console_bytes()[self.console_seen :].decode(errors="replace")
            match = pattern.search(text)
            if match:
                line = text.find("\n", match.end()) + 1 or len(text)
                self.console_seen += len(text[:line].encode())
            return match is not None

        with self.log_book.nested(f"waiting for {regex} to appear on console"):
            retry(seen, timeout or 10**9)

    def last_console_lines(self, count: int) -> list[str]:
        """The end of the console's output of all starts."""
        return self._console_bytes().decode(errors="replace").splitlines()[-count:]
