"""What a run prints: one line a step with the seconds since the beginning, nested steps indented."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Log:
    """Prints to one stream; methods that NixOS scripts call on `log` have its names."""

    def __init__(self, prefix: str = "", out: TextIO | None = None) -> None:
        self.prefix = prefix
        self.out = out if out is not None else sys.stdout
        self.began = time.monotonic()
        self.depth = 0

    def line(self, text: str) -> None:
        """Prints `text`, each of its lines with prefix, seconds and indent."""
        seconds = f"{time.monotonic() - self.began:6.1f}"
        for part in text.rstrip("\n").split("\n"):
            self.out.write(f"{self.prefix}[{seconds}] {'  ' * self.depth}{part}\n")
        self.out.flush()

    info = warning = error = log_test_error = line

    def log(self, message: str, _attributes: object = None) -> None:
        """As the NixOS logger's."""
        self.line(message)

    @contextmanager
    def nested(self, message: str, _attributes: object = None) -> Iterator[None]:
        """A step: its name before it, its duration after it if it took a second or more."""
        self.line(message)
        began = time.monotonic()
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            took = time.monotonic() - began
            if took >= 1:
                self.line(f"({took:.1f} s: {shorten(message)})")

    @contextmanager
    def subtest(self, name: str) -> Iterator[None]:
        """A step that is a claim of the scenario; says so if it does not hold."""
        with self.nested(f"subtest: {name}"):
            try:
                yield
            except Exception as error:
                self.line(f'subtest "{name}" failed: {error}')
                raise


def shorten(text: str, width: int = 80) -> str:
    """The first line of `text`, cut to `width` characters."""
    first = text.strip().split("\n", 1)[0]
    return first if len(first) <= width and first == text.strip() else first[: width - 1] + "…"
