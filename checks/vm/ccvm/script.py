"""Runs a scenario's test.py with the globals that a NixOS test script has, and tells what failed in it."""

from __future__ import annotations

import os
import re
import signal
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .errors import RequestedAssertionFailed, ScenarioTimeout
from .log import Log
from .scenario import CHECKS, Scenario
from .units import retry

if TYPE_CHECKING:
    from .machine import Machine

CONSOLE_LINES = 40
# Goes before each script, as under NixOS's driver (checks/nixos.nix).
PRELUDE = CHECKS / "prelude.py"


class AssertionTester(unittest.TestCase):
    """`t`: assertions whose failure is told as a failed test."""

    failureException = RequestedAssertionFailed


def symbols(machines: list[Machine], log: Log) -> dict[str, Any]:
    """The globals of a script."""

    def start_all() -> None:
        with log.nested("start all VMs"):
            for machine in machines:
                machine.start()

    def join_all() -> None:
        with log.nested("wait for all VMs to finish"):
            for machine in machines:
                machine.wait_for_shutdown()

    general: dict[str, Any] = {
        "start_all": start_all,
        "join_all": join_all,
        "subtest": log.subtest,
        "retry": retry,
        "log": log,
        "os": os,
        "t": AssertionTester(),
        "machines": machines,
    }
    named = {re.sub(r"^[^A-Za-z_]|[^A-Za-z0-9_]", "_", machine.name): machine for machine in machines}
    if len(machines) == 1:
        named["machine"] = machines[0]
    return general | named


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises ScenarioTimeout in what runs after that time, wherever it waits."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise ScenarioTimeout(f"the scenario took longer than {seconds / 60:g} minutes")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_script(scenario: Scenario, machines: list[Machine], log: Log) -> str | None:
    """Runs the scenario; None if all of it was so, else what was not. What failed is printed."""
    names = symbols(machines, log)
    try:
        with time_limit(scenario.timeout_minutes * 60):
            for file in (PRELUDE, scenario.script):
                exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102 - the script is the test
    except (Exception, ScenarioTimeout) as error:
        tell_failure(error, scenario.script, machines, log)
        return str(error).split("\n", 1)[0] or type(error).__name__
    return None


def tell_failure(error: BaseException, script: Path, machines: list[Machine], log: Log) -> None:
    """Prints where in the script it failed, the error, and the ends of the consoles."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, (RequestedAssertionFailed, ScenarioTimeout)):
        # How the driver found out says nothing of the cause.
        scripts = (str(PRELUDE), str(script))
        frames = traceback.StackSummary.from_list(frame for frame in frames if frame.filename in scripts)
    log.line("FAILED, in:")
    for line in traceback.format_list(frames):
        log.line(line)
    log.line(f"{type(error).__name__}: {error}")
    for machine in machines:
        lines = machine.last_console_lines(CONSOLE_LINES)
        log.line(f"-- the last {len(lines)} lines of the console of {machine.name}:")
        for line in lines:
            log.line(line)


def guarded(action: Callable[[], None], log: Log) -> None:
    """Runs what ends a guest; a fault in it is printed and hides none before it."""
    try:
        action()
    except Exception as error:
        log.line(f"ending a guest: {error}")
