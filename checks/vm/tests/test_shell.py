"""The driver's end of the guest's shell, against a guest that is a socket."""

import socket
import time
import unittest

from ccvm.errors import MachineError
from ccvm.shell import Shell


class TheShell(unittest.TestCase):
    def setUp(self) -> None:
        ours, self.guest = socket.socketpair()
        self.shell = Shell(ours, lambda: "how QEMU is")
        self.addCleanup(self.guest.close)
        self.addCleanup(self.shell.close)

    def answer(self, number: int, status: int, output: bytes) -> None:
        self.guest.sendall(f"{self.shell.tag}-{number} {status} {len(output)}\n".encode() + output)

    def run_it(self, command: str = "true", seconds: float = 5) -> tuple[int, bytes]:
        return self.shell.run(command, None, time.monotonic() + seconds)

    def test_a_request_has_the_lengths_of_command_and_input_in_bytes(self) -> None:
        identity = self.shell.send("echo ä\ntrue", 7, b"\x00\n")
        self.assertEqual(self.guest.recv(1000), f"{identity} 7 12 2\necho ä\ntrue".encode() + b"\x00\n")

    def test_output_is_taken_as_it_is(self) -> None:
        self.answer(1, 3, b"line\n\xff\x00ready x y\n")
        self.assertEqual(self.run_it(), (3, b"line\n\xff\x00ready x y\n"))

    def test_an_answer_to_somebody_else_is_passed_over_with_its_output(self) -> None:
        self.guest.sendall(b"other-1 0 8\nready a\n")
        self.answer(1, 0, b"mine")
        self.assertEqual(self.run_it(), (0, b"mine"))

    def test_a_guest_that_starts_anew_is_a_fault_of_the_command_that_ran(self) -> None:
        self.guest.sendall(b"ready 1111 2.5\n")
        with self.assertRaisesRegex(MachineError, "rebooted"):
            self.run_it()

    def test_a_guest_that_does_not_answer_is_a_fault_told_with_how_qemu_is(self) -> None:
        with self.assertRaisesRegex(MachineError, "did not answer in time; how QEMU is"):
            self.run_it(seconds=0.05)

    def test_a_closed_connection_is_a_fault_told_with_how_qemu_is(self) -> None:
        self.guest.shutdown(socket.SHUT_WR)
        with self.assertRaisesRegex(MachineError, "closed the connection.*; how QEMU is"):
            self.run_it()

    def test_the_greeting_of_the_boot_before_is_not_the_one_after_a_reboot(self) -> None:
        self.guest.sendall(b"ready old 9.9\nrest of an answer\nready new 2.5\n")
        ready = self.shell.wait_ready(time.monotonic() + 5, "old")
        self.assertEqual((ready.boot_id, ready.uptime), ("new", 2.5))
