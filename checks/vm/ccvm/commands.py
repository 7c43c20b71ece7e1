"""The part of `machine` that is made of commands in the guest. Names, arguments and results are the NixOS driver's."""

from __future__ import annotations

import io
import shlex
import tarfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from .errors import RequestedAssertionFailed
from .units import Units, retry


class Commands(Units):
    """Commands that must succeed or fail, now or at some time, and files to and fro."""

    out_dir: Path

    @abstractmethod
    def run_raw(self, command: str, timeout: int | None, stdin: bytes = b"") -> tuple[int, bytes]:
        """Exit status and standard output of a command."""

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs the commands, each of which must exit with 0; their outputs together."""
        return self._each("must succeed", commands, timeout, lambda status: status == 0)

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs the commands, none of which may exit with 0; their outputs together."""
        return self._each("must fail", commands, timeout, lambda status: status != 0)

    def _each(self, what: str, commands: tuple[str, ...], timeout: int | None, good: Callable[[int], bool]) -> str:
        outputs = []
        for command in commands:
            with self.log_book.nested(f"{what}: {command}"):
                status, output = self.execute(command, timeout=timeout)
                if not good(status):
                    self.log_book.line(f"output: {output}")
                    problem = f"failed (exit code {status})" if status else "unexpectedly succeeded"
                    raise RequestedAssertionFailed(f"command `{command}` {problem}\noutput: {output}")
                outputs.append(output)
        return "".join(outputs)

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Runs the command once a second until it exits with 0; its last output."""
        return self._until("success", command, timeout, lambda status: status == 0)

    def wait_until_fails(self, command: str, timeout: int = 900) -> str:
        """Runs the command once a second until it does not exit with 0; its last output."""
        return self._until("failure", command, timeout, lambda status: status != 0)

    def _until(self, what: str, command: str, timeout: int, good: Callable[[int], bool]) -> str:
        output = ""

        def once(last: bool) -> bool:
            nonlocal output
            status, output = self.execute(command, timeout=timeout)
            if last and not good(status):
                self.log_book.line(f"last exit code {status}, output: {output}")
            return good(status)

        with self.log_book.nested(f"waiting for {what}: {command}"):
            retry(once, timeout)
        return output

    def sleep(self, secs: int) -> None:
        """Sleeps by the guest's clock."""
        self.succeed(f"sleep {secs}")

    def wait_for_file(self, filename: str, timeout: int = 900) -> None:
        """Waits until the file exists."""
        with self.log_book.nested(f"waiting for file '{filename}'"):
            retry(lambda _last: self.execute(f"test -e {filename}")[0] == 0, timeout)

    def wait_for_open_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until something listens on the TCP port."""
        with self.log_book.nested(f"waiting for TCP port {port} on {addr}"):
            retry(lambda _last: self.execute(f"nc -z {addr} {port}")[0] == 0, timeout)

    def wait_for_closed_port(self, port: int, addr: str = "localhost", timeout: int = 900) -> None:
        """Waits until nothing listens on the TCP port."""
        with self.log_book.nested(f"waiting for TCP port {port} on {addr} to be closed"):
            retry(lambda _last: self.execute(f"nc -z {addr} {port}")[0] != 0, timeout)

    def wait_for_open_unix_socket(self, addr: str, is_datagram: bool = False, timeout: int = 900) -> None:
        """Waits until something listens on the Unix socket."""
        flags = "-z -uU" if is_datagram else "-z -U"
        with self.log_book.nested(f"waiting for the Unix socket '{addr}'"):
            retry(lambda _last: self.execute(f"nc {flags} {addr}")[0] == 0, timeout)

    def get_tty_text(self, tty: str) -> str:
        """What is on a virtual terminal's screen."""
        return self.execute(f"fold -w$(stty -F /dev/tty{tty} size | awk '{{print $2}}') /dev/vcs{tty}")[1]

    def copy_from_host(self, source: str, target: str) -> None:
        """Copies a file or folder into the guest, modes kept, owned by root; the folders above it are made."""
        # As `cp -r`: into the target if that is a folder.
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(source, arcname=Path(source).name, filter=_owned_by_root)
        name, quoted = shlex.quote(Path(source).name), shlex.quote(target)
        status, _ = self.run_raw(
            f"t=$(mktemp -d); tar -x -C $t; mkdir -p $(dirname {quoted}); cp -r --preserve=mode $t/{name} {quoted}; "
            "rm -rf $t",
            None,
            packed.getvalue(),
        )
        if status != 0:
            raise RequestedAssertionFailed(f"copying {source} to {target} in the guest failed (exit code {status})")

    copy_from_host_via_shell = copy_from_host

    def copy_from_machine(self, source: str, target_dir: str = "") -> None:
        """Copies a file or folder of the guest into the scenario's log folder."""
        parent, name = (shlex.quote(str(part)) for part in (Path(source).parent, Path(source).name))
        status, packed = self.run_raw(f"tar -c -C {parent} {name}", None)
        if status != 0:
            raise RequestedAssertionFailed(f"copying {source} from the guest failed (exit code {status})")
        folder = self.out_dir / target_dir
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            # Python before 3.11.4 has no filters.
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(folder)

    copy_from_vm = copy_from_machine


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
