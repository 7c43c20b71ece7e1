"""What is told of a QEMU that is gone; another process stands for it."""

import tempfile
import unittest
from pathlib import Path

from ccvm.qemu import Process, tell_end


class HowItEnded(unittest.TestCase):
    def test_a_signal_is_told_by_its_name_with_the_last_that_was_said(self) -> None:
        said = "".join(f"line {number}\n" for number in range(7))
        told = tell_end(-6, said)
        self.assertEqual(told, "QEMU was ended by SIGABRT; it said: line 2; line 3; line 4; line 5; line 6")

    def test_an_exit_code_is_told(self) -> None:
        self.assertEqual(tell_end(1, ""), "QEMU exited with 1; it said nothing")

    def test_zero_is_the_guests_own_end(self) -> None:
        self.assertIn("the guest powered itself off", tell_end(0, ""))

    def test_one_that_runs_is_told_to_run(self) -> None:
        self.assertEqual(tell_end(None, ""), "QEMU still runs; it said nothing")


class ItsProcess(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.said = Path(folder.name) / "qemu-machine.log"

    def run_script(self, script: str) -> Process:
        return Process(["sh", "-c", script], self.said)

    def test_its_end_and_its_words_are_told_though_it_ends_later_than_its_connections(self) -> None:
        process = self.run_script("sleep 0.2; echo 'Assertion failed' >&2; kill -ABRT $$")
        self.assertEqual(process.tell(), "QEMU was ended by SIGABRT; it said: Assertion failed")

    def test_the_words_of_an_earlier_one_are_kept_and_not_told(self) -> None:
        self.run_script("echo first >&2").child.wait()
        self.assertEqual(self.run_script("exit 3").tell(), "QEMU exited with 3; it said nothing")
        self.assertEqual(self.said.read_text(), "first\n")
