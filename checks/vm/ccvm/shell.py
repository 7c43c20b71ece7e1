"""The driver's end of the root shell in the guest (recipe/root/usr/lib/cc-ci-test/backdoor).

A request is `ID TIMEOUT COMMAND_BYTES INPUT_BYTES` and those bytes, an answer `ID STATUS OUTPUT_BYTES` and those. When
the guest's end starts, at each boot, it says `ready BOOT_ID UPTIME`.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineError


@dataclass(frozen=True)
class Ready:
    """What a boot's shell says first."""

    boot_id: str
    uptime: float


class Shell:
    """A connection to the guest's shell. It outlives a reboot of the guest, not the end of QEMU."""

    def __init__(self, connection: socket.socket, tell: Callable[[], str] = lambda: "does QEMU still run?") -> None:
        """`tell` says how QEMU is, for the error when its end of the connection does not answer."""
        self.connection = connection
        self.tell = tell
        self.buffer = bytearray()
        self.next_id = 0
        # Another driver may have talked to the same shell: its late answers are not ours.
        self.tag = f"{os.getpid()}-{time.monotonic_ns()}"

    @classmethod
    def connect(cls, path: Path, tell: Callable[[], str] = lambda: "does QEMU still run?") -> Shell:
        """Connects to the socket that QEMU listens on."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(path))
        return cls(connection, tell)

    def close(self) -> None:
        self.connection.close()

    def wait_ready(self, deadline: float | None, but_not: str | None) -> Ready:
        """The first greeting that is not of the boot `but_not`; what comes before it is an earlier boot's."""
        while True:
            words = self._line(deadline).split()
            if len(words) == 3 and words[0] == b"ready":
                ready = Ready(words[1].decode(), float(words[2]))
                if ready.boot_id != but_not:
                    return ready

    def send(self, command: str, timeout: int | None, stdin: bytes = b"") -> str:
        """Sends a request and does not wait; its ID."""
        self.next_id += 1
        identity = f"{self.tag}-{self.next_id}"
        encoded = command.encode()
        header = f"{identity} {timeout or 0} {len(encoded)} {len(stdin)}\n"
        self.connection.settimeout(None)
        try:
            self.connection.sendall(header.encode() + encoded + stdin)
        except OSError as error:
            raise MachineError(f"sending a command to the guest's shell: {error}; {self.tell()}") from error
        return identity

    def run(self, command: str, timeout: int | None, deadline: float | None, stdin: bytes = b"") -> tuple[int, bytes]:
        """Runs `command` in bash; its exit status and standard output. `timeout` (seconds) is the guest's to keep;
        `deadline` (of time.monotonic()) is for a guest that does not answer at all."""
        identity = self.send(command, timeout, stdin)
        while True:
            words = self._line(deadline).split()
            if words[:1] == [b"ready"]:
                raise MachineError("the guest rebooted, or its shell died, while it ran the command")
            if len(words) == 3:
                output = self._exactly(int(words[2]), deadline)
                if words[0].decode() == identity:
                    return int(words[1]), output

    def _line(self, deadline: float | None) -> bytes:
        while b"\n" not in self.buffer:
            self._receive(deadline)
        line, _, rest = self.buffer.partition(b"\n")
        self.buffer = bytearray(rest)
        return bytes(line)

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        while len(self.buffer) < count:
            self._receive(deadline)
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _receive(self, deadline: float | None) -> None:
        self.connection.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
        try:
            chunk = self.connection.recv(1 << 16)
        except TimeoutError as error:
            raise MachineError(f"the guest's shell did not answer in time; {self.tell()}") from error
        except OSError as error:
            raise MachineError(f"reading from the guest's shell: {error}; {self.tell()}") from error
        if not chunk:
            raise MachineError(f"QEMU closed the connection to the guest's shell; {self.tell()}")
        self.buffer += chunk


def interact(path: Path) -> int:
    """Reads commands from the terminal and runs each in the guest."""
    guest = Shell.connect(path)
    guest.wait_ready(time.monotonic() + 30, None)
    while True:
        try:
            command = input("guest# ")
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        status, output = guest.run(f"{{ {command}\n}} 2>&1", None, None)
        print(output.decode(errors="replace"), end="")
        if status:
            print(f"(exit {status})")
