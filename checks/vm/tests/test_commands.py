"""What a script's commands return and raise, with a guest that is a table."""

import io
import tarfile
import tempfile
import unittest
from pathlib import Path

from ccvm.commands import Commands
from ccvm.errors import RequestedAssertionFailed
from ccvm.log import Log


class Guest(Commands):
    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        self.answers = answers
        self.printed = io.StringIO()
        self.log_book = Log(out=self.printed)
        self.stdin = b""

    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = 900
    ) -> tuple[int, str]:
        return self.answers[command]

    def run_raw(self, command: str, timeout: int | None, stdin: bytes = b"") -> tuple[int, bytes]:
        self.stdin = stdin
        return 0, b""


class CommandsOfAScript(unittest.TestCase):
    def setUp(self) -> None:
        self.guest = Guest({"good": (0, "fine\n"), "bad": (9, "what it printed\n")})

    def test_succeed_returns_all_outputs(self) -> None:
        self.assertEqual(self.guest.succeed("good", "good"), "fine\nfine\n")

    def test_succeed_tells_the_command_its_exit_code_and_its_output(self) -> None:
        with self.assertRaises(RequestedAssertionFailed) as raised:
            self.guest.succeed("good", "bad")
        self.assertEqual(str(raised.exception), "command `bad` failed (exit code 9)\noutput: what it printed\n")
        self.assertIn("output: what it printed", self.guest.printed.getvalue())

    def test_fail_returns_the_output_of_what_failed(self) -> None:
        self.assertEqual(self.guest.fail("bad"), "what it printed\n")

    def test_fail_does_not_take_success(self) -> None:
        with self.assertRaisesRegex(RequestedAssertionFailed, "command `good` unexpectedly succeeded"):
            self.guest.fail("good")

    def test_a_copied_file_is_roots_and_keeps_its_mode(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "program"
            source.write_text("#!/bin/sh\n")
            source.chmod(0o750)
            self.guest.copy_from_host(str(source), "/usr/bin/program")
        with tarfile.open(fileobj=io.BytesIO(self.guest.stdin)) as tar:
            (member,) = tar.getmembers()
        self.assertEqual((member.name, member.mode, member.uid, member.gid), ("program", 0o750, 0, 0))
