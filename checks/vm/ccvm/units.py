"""The part of `machine` that asks systemd. Names, arguments and results are those of the NixOS test driver."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from .errors import RequestedAssertionFailed
from .log import Log

PROPERTY = re.compile(r"^([^=]+)=(.*)$")


def retry(function: Callable[[bool], bool], timeout_seconds: float = 900) -> None:
    """Calls `function` once a second until it is true; one last time, with True, after `timeout_seconds`."""
    began = time.monotonic()
    while time.monotonic() - began < timeout_seconds:
        if function(False):
            return
        time.sleep(1)
    elapsed = time.monotonic() - began
    if not function(True):
        raise RequestedAssertionFailed(f"action timed out after {elapsed:.2f} seconds (timeout={timeout_seconds})")


def properties(text: str) -> dict[str, str]:
    """`systemctl show`'s lines as a dictionary."""
    found = (PROPERTY.match(line) for line in text.split("\n"))
    return {match[1]: match[2] for match in found if match}


def has_failed(unit: str, state: str, no_jobs: Callable[[], bool], state_again: Callable[[], str]) -> str | None:
    """Why waiting for `unit` to be active is in vain, or None. An inactive unit may still be queued, and may have been
    started between the two questions."""
    if state == "failed":
        return f'unit "{unit}" reached state "failed"'
    if state == "inactive" and no_jobs() and state_again() == "inactive":
        return f'unit "{unit}" is inactive and there are no pending jobs'
    return None


class Units(ABC):
    """What can be asked of systemd through `execute`."""

    log_book: Log

    @abstractmethod
    def execute(
        self, command: str, check_return: bool = True, check_output: bool = True, timeout: int | None = 900
    ) -> tuple[int, str]: ...

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Runs `systemctl`, or `systemctl --user` as `user`."""
        if user is None:
            return self.execute(f"systemctl {q}")
        q = q.replace("'", "\\'")
        return self.execute(
            f"su -l {user} --shell /bin/sh -c $'XDG_RUNTIME_DIR=/run/user/`id -u` systemctl --user {q}'"
        )

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        return self.systemctl(f"start {jobname}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        return self.systemctl(f"stop {jobname}", user)

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """All properties of a unit."""
        status, lines = self.systemctl(f'--no-pager show "{unit}"', user)
        if status != 0:
            raise RequestedAssertionFailed(
                f'retrieving systemctl info for unit "{unit}" failed with exit code {status}'
            )
        return properties(lines)

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        status, lines = self.systemctl(f'--no-pager show "{unit}" --property="{property}"', user)
        if status != 0:
            raise RequestedAssertionFailed(
                f'retrieving systemctl property "{property}" for unit "{unit}" failed with exit code {status}'
            )
        found = properties(lines)
        if list(found) != [property]:
            raise RequestedAssertionFailed(f'unit "{unit}" has no property "{property}": {lines!r}')
        return found[property]

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """Fails unless the unit is in that state now."""
        with self.log_book.nested(f"checking if unit '{unit}' has reached state '{require_state}'"):
            state = self.get_unit_property(unit, "ActiveState")
            if state != require_state:
                raise RequestedAssertionFailed(
                    f"Expected unit '{unit}' to be in state '{require_state}' but it is in state '{state}'"
                )

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: int = 900) -> None:
        """Waits until the unit is active; fails at once when it failed, or is inactive and nothing will start it."""

        def is_active(_last: bool) -> bool:
            state = self.get_unit_property(unit, "ActiveState", user)
            reason = has_failed(
                unit,
                state,
                lambda: "No jobs" in self.systemctl("list-jobs --full 2>&1", user)[1],
                lambda: self.get_unit_property(unit, "ActiveState", user),
            )
            if reason:
                raise RequestedAssertionFailed(reason)
            return state == "active"

        with self.log_book.nested(f"waiting for unit {unit}" + (f" with user {user}" if user else "")):
            retry(is_active, timeout)
