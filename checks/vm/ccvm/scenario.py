"""Scenarios: the folders of checks/ that have a scenario.toml, and what that says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

# See Machine.crash.
CRASH_WAYS = ("quit", "reset", "kill")
CHECKS = Path(__file__).parent.parent.parent
NEEDED = {"title", "budget_minutes"}
KEYS = NEEDED | {"timeout_minutes", "memory", "crash", "guest", "nodes", "must_fail", "binaries", "like", "disks"}


class BadScenario(Exception):
    """A scenario.toml is not as it must be."""


@dataclass(frozen=True)
class Scenario:
    """One folder of checks/."""

    name: str
    folder: Path
    # What it shows, in a few words.
    title: str
    # What it takes on two cores without KVM; only told.
    budget_minutes: float
    # When it is ended.
    timeout_minutes: float
    # Of each node, MiB.
    memory: int
    # How `crash()` does it, in turn.
    crash: tuple[str, ...]
    # Scenarios that name the same guest share one, one after the other.
    guest: str | None
    # Names of the nodes, "machine" alone being the usual case.
    nodes: tuple[str, ...]
    # A twin, which shows that a failure is seen: it must fail, and its output must have these texts.
    must_fail: tuple[str, ...]
    # Which build of the software it runs: "release", or a feature of Cargo.toml.
    binaries: str
    # Serial numbers of disks with an empty ext4 that each node has beside its own.
    disks: tuple[str, ...]
    # Whose test.py, supervisor.toml, guest/ and next/ it uses: its own, or those of the scenario that it is `like`.
    source: Path

    @property
    def hardware(self) -> tuple[object, ...]:
        """What scenarios that share a guest must agree on."""
        return self.memory, self.nodes, self.disks, self.binaries

    @property
    def script(self) -> Path:
        return self.source / "test.py"


def parse(name: str, folder: Path, text: str) -> Scenario:
    """Reads a scenario.toml."""
    table = tomllib.loads(text)
    unknown = sorted(set(table) - KEYS)
    if unknown:
        raise BadScenario(f"checks/{name}/scenario.toml: unknown keys {unknown}; known are {sorted(KEYS)}")
    for key in sorted(NEEDED):
        if key not in table:
            raise BadScenario(f"checks/{name}/scenario.toml: `{key}` is missing")
    crash = tuple(table.get("crash", ["quit"]))
    if not crash or set(crash) - set(CRASH_WAYS):
        raise BadScenario(f"checks/{name}/scenario.toml: `crash` is a list of {list(CRASH_WAYS)}, not {list(crash)}")
    nodes = tuple(table.get("nodes", ["machine"]))
    if not 1 <= len(nodes) <= 2:
        raise BadScenario(f"checks/{name}/scenario.toml: `nodes` are one or two, not {len(nodes)}")
    # NixOS's driver gives them 192.168.1.1 and on in this order, and the scripts name addresses.
    if list(nodes) != sorted(nodes):
        raise BadScenario(f"checks/{name}/scenario.toml: `nodes` must be in alphabetical order, not {nodes}")
    budget = float(table["budget_minutes"])
    return Scenario(
        name=name,
        folder=folder,
        title=str(table["title"]),
        budget_minutes=budget,
        # Against what hangs: the computer may have other things to do.
        timeout_minutes=float(table.get("timeout_minutes", max(30, 4 * budget))),
        memory=int(table.get("memory", 1024)),
        crash=crash,
        guest=table.get("guest"),
        nodes=nodes,
        must_fail=tuple(table.get("must_fail", [])),
        binaries=str(table.get("binaries", "release")),
        disks=tuple(table.get("disks", [])),
        source=folder.parent / table["like"] if "like" in table else folder,
    )


def find(checks: Path = CHECKS) -> dict[str, Scenario]:
    """All scenarios by name."""
    return {
        file.parent.name: parse(file.parent.name, file.parent, file.read_text())
        for file in sorted(checks.glob("*/scenario.toml"))
    }


def groups(chosen: list[Scenario]) -> list[list[Scenario]]:
    """What runs in one guest, the longest first so that two guests at a time end together."""
    found: dict[str, list[Scenario]] = {}
    for scenario in chosen:
        key = f"guest {scenario.guest}" if scenario.guest else f"scenario {scenario.name}"
        found.setdefault(key, []).append(scenario)
    for members in found.values():
        first = members[0]
        for other in members[1:]:
            if other.hardware != first.hardware:
                both = f"{first.name} and {other.name}"
                raise BadScenario(f"{both} share a guest, so memory, nodes, disks and binaries must agree")
    return sorted(found.values(), key=lambda members: -sum(member.budget_minutes for member in members))
