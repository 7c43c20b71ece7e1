"""What counts as passed, and what is told of a failure."""

import io
import signal
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from ccvm import script
from ccvm.errors import RequestedAssertionFailed, ScenarioTimeout
from ccvm.log import Log
from ccvm.run import judge
from ccvm.scenario import Scenario, parse

LEAST = 'title = "t"\nbudget_minutes = 1\n'


class FakeMachine:
    name = "machine"

    def succeed(self, command: str) -> str:
        raise RequestedAssertionFailed(f"command `{command}` failed (exit code 1)\noutput: what it printed")

    def last_console_lines(self, count: int) -> list[str]:
        return ["a line of the console"]


class Judging(unittest.TestCase):
    plain = parse("plain", Path("plain"), LEAST)
    twin = parse("twin", Path("twin"), LEAST + 'must_fail = ["a lost phase"]')

    def test_a_scenario_passes_when_nothing_failed(self) -> None:
        self.assertIsNone(judge(self.plain, None, ""))
        self.assertEqual(judge(self.plain, "it was not so", ""), "it was not so")

    def test_a_twin_that_passes_is_a_failure(self) -> None:
        self.assertEqual(judge(self.twin, None, ""), "it is a twin that must fail, and it passed")

    def test_a_twin_must_fail_for_its_own_reason(self) -> None:
        self.assertIsNone(judge(self.twin, "no", "cut 3: a lost phase, 4 instead of 5"))
        self.assertIn("lacks ['a lost phase']", str(judge(self.twin, "no", "QEMU did not start")))


class Scripts(unittest.TestCase):
    def run_text(self, text: str, minutes: float = 1) -> tuple[str | None, str]:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "test.py").write_text(text)
            one: Scenario = parse("one", Path(folder), LEAST + f"timeout_minutes = {minutes}")
            printed = io.StringIO()
            machines: list[Any] = [FakeMachine()]
            return script.run_script(one, machines, Log(out=printed)), printed.getvalue()

    def test_a_script_in_which_all_is_so_passes(self) -> None:
        failure, _ = self.run_text('with subtest("so"):\n    t.assertEqual(1, 1)\n    assert machine is machines[0]\n')
        self.assertIsNone(failure)

    def test_a_failure_is_told_with_its_line_its_output_and_the_console(self) -> None:
        failure, printed = self.run_text('with subtest("a claim"):\n    machine.succeed("false")\n')
        self.assertEqual(failure, "command `false` failed (exit code 1)")
        for text in ('subtest "a claim" failed', "line 2", "output: what it printed", "a line of the console"):
            self.assertIn(text, printed)

    def test_a_script_has_what_the_prelude_has(self) -> None:
        failure, _ = self.run_text('assert json.loads("[1]") == [1]\nassert callable(wait_until_all_up)\n')
        self.assertIsNone(failure)

    def test_a_failure_in_the_prelude_is_told_with_the_line_that_called_it(self) -> None:
        _, printed = self.run_text("\nboot_id()\n")
        for text in ("prelude.py", "test.py", "line 2, in <module>", "output: what it printed"):
            self.assertIn(text, printed)

    def test_an_assertion_of_the_script_is_a_failure(self) -> None:
        failure, printed = self.run_text("assert 1 == 2, 'one is not two'\n")
        self.assertEqual(failure, "one is not two")
        self.assertIn("line 1", printed)

    def test_a_script_is_ended_in_time_whatever_it_catches(self) -> None:
        began = time.monotonic()
        text = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except Exception:\n        pass\n"
        failure, _ = self.run_text(text, 0.001)
        self.assertEqual(failure, "the scenario took longer than 0.001 minutes")
        self.assertLess(time.monotonic() - began, 30)

    def test_the_time_limit_ends_with_what_it_limits(self) -> None:
        with self.assertRaises(ScenarioTimeout), script.time_limit(0.01):
            time.sleep(30)
        with script.time_limit(30):
            pass
        self.assertEqual(signal.getitimer(signal.ITIMER_REAL)[0], 0)
