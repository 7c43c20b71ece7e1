"""What the driver concludes from what systemd says."""

import unittest
from typing import Any
from unittest import mock

from ccvm import units
from ccvm.errors import RequestedAssertionFailed
from ccvm.units import has_failed, properties, retry


def never() -> Any:
    raise AssertionError("it was asked for what does not matter")


class WaitingForAUnit(unittest.TestCase):
    def test_a_failed_unit_is_not_waited_for(self) -> None:
        self.assertEqual(has_failed("a.service", "failed", never, never), 'unit "a.service" reached state "failed"')

    def test_an_inactive_unit_with_no_job_is_not_waited_for(self) -> None:
        reason = has_failed("a.service", "inactive", lambda: True, lambda: "inactive")
        self.assertEqual(reason, 'unit "a.service" is inactive and there are no pending jobs')

    def test_an_inactive_unit_is_waited_for_while_jobs_are_pending(self) -> None:
        self.assertIsNone(has_failed("a.service", "inactive", lambda: False, never))

    def test_a_unit_that_became_active_between_two_looks_is_waited_for(self) -> None:
        self.assertIsNone(has_failed("a.service", "inactive", lambda: True, lambda: "active"))

    def test_a_unit_that_is_starting_or_between_restarts_is_waited_for(self) -> None:
        self.assertIsNone(has_failed("a.service", "activating", never, never))


class Properties(unittest.TestCase):
    def test_values_may_have_equal_signs_and_be_empty(self) -> None:
        self.assertEqual(properties("A=b=c\nD=\nnothing\n"), {"A": "b=c", "D": ""})


class Retrying(unittest.TestCase):
    def setUp(self) -> None:
        self.time = 0.0
        clock = mock.Mock(monotonic=lambda: self.time, sleep=self.pass_time)
        replaced = mock.patch.object(units, "time", clock)
        replaced.start()
        self.addCleanup(replaced.stop)

    def pass_time(self, seconds: float) -> None:
        self.time += seconds

    def test_it_asks_until_it_is_so(self) -> None:
        answers = iter([False, False, True])
        retry(lambda _last: next(answers), 10)
        self.assertEqual(self.time, 2)

    def test_it_asks_a_last_time_after_the_limit_and_then_fails(self) -> None:
        asked: list[bool] = []

        def ask(last: bool) -> bool:
            asked.append(last)
            return False

        with self.assertRaisesRegex(RequestedAssertionFailed, r"timed out after 3.00 seconds \(timeout=3\)"):
            retry(ask, 3)
        self.assertEqual(asked, [False, False, False, True])
