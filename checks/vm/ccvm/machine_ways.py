"""How `crash()` can cut a guest off; see Machine.crash."""

CRASH_WAYS = ("quit", "reset", "kill")
