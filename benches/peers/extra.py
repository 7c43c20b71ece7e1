"""What is measured of this project's supervisor only: its commands, whole process each, and its binary."""

import dataclasses
import os
import pathlib
import shutil
import subprocess
import time

from . import proc
from .measure import say
from .ours import Ours
from .rig import Failed, Rig
from .tool import Run

EVENT = b'{"hook_event_name":"Notification","message":"bench"}'


@dataclasses.dataclass
class Extra:
    """Milliseconds, bytes."""

    loops: int = 0
    spawn: list[float] = dataclasses.field(default_factory=list)
    status: list[float] = dataclasses.field(default_factory=list)
    event: list[float] = dataclasses.field(default_factory=list)
    event_alone: list[float] = dataclasses.field(default_factory=list)
    binary: int = 0
    # What strip(1) makes of it; None without one.
    stripped: int | None = None


def measure(tool: Ours, rig: Rig, loops: int, rounds: int) -> Extra:
    """With `loops` children."""
    extra = Extra(loops=loops)
    say(f"status and event with {loops} loops")
    extra.binary, extra.stripped = binary_size(tool.binary, rig.folder)
    run = Run(tool, rig, loops)
    try:
        run.start_all()
        run.check_quiet(2)
        run.check_once()
        event = run.folder / "event.json"
        event.write_bytes(EVENT)
        config = ["--config", f"{run.folder}/supervisor.toml"]
        env = tool.environment(run.folder)
        # As a hook has it.
        hook = env | {"CC_CI_LOOP": "c0", "CC_CI_EPOCH": "1", "CC_CI_SOCKET": f"{run.folder}/run/control.sock"}
        status, pass_on = [str(tool.binary), "status", *config], [str(tool.binary), "event"]
        shown = subprocess.run(status, env=env, capture_output=True, text=True, check=True).stdout
        missing = [name for name in run.names if name not in shown.split()]
        if missing:
            raise Failed(f"`status` does not show {len(missing)} of {loops} loops")
        extra.spawn = times(["/bin/true"], env, event, rounds)
        extra.status = times(status, env, event, rounds)
        check_event(pass_on, hook, event, delivered=True)
        extra.event = times(pass_on, hook, event, rounds)
        proc.kill(run.main(), run.mark)
        run.started[-1].wait(10)
        check_event(pass_on, hook, event, delivered=False)
        extra.event_alone = times(pass_on, hook, event, rounds)
        return extra
    finally:
        run.end()


def times(argv: list[str], env: dict[str, str], stdin: pathlib.Path, rounds: int) -> list[float]:
    """From before the process is made until it is reaped, each time with exit code 0."""
    took = []
    files = [
        (os.POSIX_SPAWN_OPEN, 0, str(stdin), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    for _ in range(rounds):
        begun = time.monotonic()
        pid = os.posix_spawn(argv[0], argv, env, file_actions=files)
        _, status = os.waitpid(pid, 0)
        took.append((time.monotonic() - begun) * 1000)
        if status:
            raise Failed(f"`{' '.join(argv)}` ended with {os.waitstatus_to_exitcode(status)}")
    return took


def check_event(argv: list[str], env: dict[str, str], stdin: pathlib.Path, delivered: bool) -> None:
    """What is timed is what is meant: the event arrives, or nobody is there to take it."""
    with open(stdin, "rb") as file:
        said = subprocess.run(
            [*argv, "--verbose"], env=env, stdin=file, capture_output=True, text=True, check=True
        ).stderr
    if delivered and said:
        raise Failed(f"`event` did not get through: {said.strip()}")
    if not delivered and not said:
        raise Failed("`event` got through although the daemon was killed")


def binary_size(binary: pathlib.Path, folder: pathlib.Path) -> tuple[int, int | None]:
    """Its bytes as built, and after strip(1); None without one."""
    size = binary.stat().st_size
    if not shutil.which("strip"):
        return size, None
    copy = folder / "stripped"
    subprocess.run(["strip", "-o", copy, binary], check=True)
    return size, copy.stat().st_size
