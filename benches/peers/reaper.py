"""Reaps what loses its parent, at once. PID 1 of a container may take seconds, and monit restarts no child before its
zombie is gone."""

import collections.abc
import ctypes
import os
import signal
import sys

PR_SET_CHILD_SUBREAPER = 36


def under_reaper(work: collections.abc.Callable[[], int]) -> int:
    """Runs `work` in a child and waits for it and for every orphan of its descendants; the child's exit code."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print(f"supervisors.py: orphans are left to PID 1: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
    worker = os.fork()
    if worker == 0:
        return work()
    # A terminal's Ctrl-C reaches the worker itself; the rest is passed on. It cleans up, then it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: os.kill(worker, got))
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1
