"""The software under test and the scenarios, as a tar that is the guest's second disk.

recipe/init unpacks it before systemd starts for the first time and runs guest/provision, so a guest's first boot is
already that of an installed machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineError
from .scenario import CHECKS, Scenario

REPOSITORY = CHECKS.parent
INSIDE = "usr/lib/cc-ci-test"
# What tools/install.sh installs from, beside the binaries.
SOURCES = ("tools/install.sh", "modules")
NEXT_CONFIG = "next/etc/cc-ci-orchestrator/supervisor.toml"


@dataclass(frozen=True)
class Payload:
    """A tar, and a name for what is in it."""

    file: Path
    identity: str


def build_binaries(build: str) -> Path:
    """A folder with the binaries of `build`: `release` (those in $CC_CI_BIN_DIR, if it is set) or a feature."""
    given = os.environ.get("CC_CI_BIN_DIR")
    if build == "release" and given:
        return Path(given)
    command = ["cargo", "build", "--release", "--locked", "--bins", "--message-format=json-render-diagnostics"]
    if build != "release":
        # A folder of its own: nobody must take these for the real ones.
        target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / f"vm-{build}"
        command += ["--features", build, "--target-dir", str(target)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"`{' '.join(command)}` exited with {done.returncode}")
    return folder_of_binaries(done.stdout)


def folder_of_binaries(messages: str) -> Path:
    """Where cargo put the executables, from its messages."""
    built = (json.loads(line) for line in messages.splitlines() if line.startswith("{"))
    folders = {Path(message["executable"]).parent for message in built if message.get("executable")}
    if len(folders) != 1:
        raise MachineError(f"cargo named {len(folders)} folders of executables, not one")
    return folders.pop()


def executables(folder: Path) -> list[Path]:
    """The programs of src/bin in a folder of cargo's."""
    names = sorted(path.stem for path in (REPOSITORY / "src/bin").glob("*.rs"))
    return [folder / name for name in names if (folder / name).exists()]


def make(scenarios: list[Scenario], binaries: Path, target: Path) -> Payload:
    """Writes the payload of the scenarios that share a guest, the first of which is active on the first boot."""
    with tarfile.open(target, "w") as tar:
        for program in executables(binaries):
            add(tar, program, f"{INSIDE}/software/bin/{program.name}")
        for source in SOURCES:
            add(tar, REPOSITORY / source, f"{INSIDE}/software/{source}")
        for helper in sorted((CHECKS / "vm/guest").iterdir()):
            add(tar, helper, f"{INSIDE}/{helper.name}")
        for command in sorted((CHECKS / "guest").glob("*")):
            add(tar, command, f"usr/local/bin/{command.name}")
        for scenario in scenarios:
            for part in ("supervisor.toml", "guest", "next"):
                if (scenario.source / part).exists():
                    add(tar, scenario.source / part, f"{INSIDE}/scenarios/{scenario.name}/{part}")
            # The guest has nothing that reads TOML.
            for config, name in (("supervisor.toml", "loops"), (NEXT_CONFIG, "next-loops")):
                if (scenario.source / config).exists():
                    text = "".join(f"{loop}\n" for loop in loops(scenario.source / config))
                    add_text(tar, f"{INSIDE}/scenarios/{scenario.name}/{name}", text)
        add_text(tar, f"{INSIDE}/first-scenario", scenarios[0].name)
    return Payload(target, hashlib.sha256(target.read_bytes()).hexdigest()[:16])


def loops(config: Path) -> list[str]:
    """The names of the loops of a config, each of which has a session's unit."""
    return sorted(tomllib.loads(config.read_text())["loops"])


def add(tar: tarfile.TarFile, source: Path, name: str) -> None:
    """Adds a file or folder, owned by root and with no time of its own, so that the same content is the same tar."""
    tar.add(source, name, filter=plain)


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 0
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = plain(tarfile.TarInfo(name))
    member.size = len(text.encode())
    tar.addfile(member, io.BytesIO(text.encode()))
