#!/usr/bin/env python3
"""Holds what the NixOS modules make (`nix eval --json .#lib.rendered`, on stdin) against what the scenarios of checks/ run on
Debian: the config of each, and each unit with its drop-in. The hosts' configs are given to the programs that read them,
those in the folder that is named by --programs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "/usr/local"

Line = tuple[str, str, str]
Table = dict[str, Any]

# What an option of the module sets although a config does not say it: as docs/config.md has it.
DEFAULTS: Table = {"state_dir": "/var/lib/cc-ci-orchestrator", "runtime_dir": "/run/cc-ci-orchestrator"}
PHASES: Table = {"index_file": ".cc-ci-logs/.phase-idx", "gate_patience": "1h", "advance_on": "gate-pass"}

# What NixOS writes into every drop-in, and what a switch does; a host has limits and a key besides.
ANYWHERE = {"X-RestartIfChanged", "X-StopIfChanged", "X-Restart-Triggers"}
ON_HOSTS = {"MemoryHigh", "MemoryMax", "LoadCredential"}
VARIABLES = {"PATH", "LOCALE_ARCHIVE", "TZDIR"}


def lines(text: str) -> Iterator[Line]:
    """Section, key and value of each assignment in a unit file."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield section, key, value


def installed(programs: Path | None) -> dict[str, str]:
    """The unit files as tools/install.sh writes them, by name."""
    with tempfile.TemporaryDirectory() as folder:
        binary = (programs or Path(folder)) / "supervisor"
        if programs is None:
            # What is not there to be run is only copied.
            for name in ("supervisor", "proxy-shim", "secrets-placer"):
                (Path(folder) / name).touch()
        script = [str(ROOT / "tools/install.sh"), "--destdir", f"{folder}/root", "--prefix", PREFIX]
        subprocess.run([*script, "--binary", str(binary)], check=True, stdout=subprocess.DEVNULL)
        units = Path(f"{folder}/root{PREFIX}/lib/systemd/system").iterdir()
        return {unit.name: unit.read_text() for unit in units}


def template(name: str) -> str:
    """`cc-ci-session@builder.service` is one of cc-ci-session@.service."""
    before, at, _ = name.partition("@")
    return f"{before}@.service" if at else name


def drop_in_faults(name: str, unit: Table, debian: str, also: set[str]) -> Iterator[str]:
    """What a drop-in says that the unit on Debian does not hold."""
    if not unit["dropIn"]:
        yield f"{name}: it comes as a unit of its own, not over the package's"
    holds = list(lines(debian))
    wanted = [value for section, key, value in holds if (section, key) == ("Install", "WantedBy")]
    if unit["wantedBy"] != wanted:
        yield f"{name}: wanted by {unit['wantedBy']}, on Debian by {wanted}"
    for section, key, value in lines(unit["text"]):
        environment = key == "Environment" and value.strip('"').partition("=")[0] in VARIABLES
        if not (environment or key in ANYWHERE | also or key == "WantedBy" or (section, key, value) in holds):
            yield f"{name}: its drop-in says `{key}={value}`, of which Debian's unit knows nothing"


def unit_faults(rendered: Table, debian: dict[str, str], loops: list[str], also: set[str]) -> Iterator[str]:
    """Which units there are, and what they are but for the place of the programs."""
    sessions = {f"cc-ci-session@{name}.service" for name in loops}
    expected = {name for name in debian if "@" not in name} | sessions
    if set(rendered["units"]) != expected:
        yield f"the units are {sorted(rendered['units'])}, on Debian {sorted(expected)}"
    for name in sorted(expected & set(rendered["units"])):
        yield from drop_in_faults(name, rendered["units"][name], debian[template(name)], also)


def package_faults(bindir: str, debian: dict[str, str]) -> Iterator[str]:
    """The package's own units, which the build makes of the same files."""
    for source in sorted((ROOT / "modules/units").glob("*.service")):
        here = debian.get(source.name, "").replace(f"{PREFIX}/bin", bindir)
        if source.read_text().replace("@bindir@", bindir) != here:
            yield f"{source.name}: Debian has another text"


def scenario_faults(name: str, rendered: Table, debian: dict[str, str]) -> Iterator[str]:
    """Of one folder of checks/."""
    written = tomllib.loads((ROOT / "checks" / name / "supervisor.toml").read_text())
    expected = DEFAULTS | written
    if "phases" in written:
        expected["phases"] = PHASES | written["phases"]
    if "needs" in rendered["supervisor"]:
        # The module of the proxy, and of the secrets, say what it is to need them.
        expected["needs"] = rendered["supervisor"]["needs"] | written.get("needs", {})
    if rendered["supervisor"] != expected:
        yield f"{name}: the config is {json.dumps(rendered['supervisor'])}, on Debian {json.dumps(expected)}"
    for fault in unit_faults(rendered, debian, list(written["loops"]), set()):
        yield f"{name}: {fault}"


def toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def refused(command: list[str], fine: set[int]) -> Iterator[str]:
    """What a program has to say against the config that it was given."""
    out = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60)
    if out.returncode not in fine:
        yield f"`{Path(command[0]).name}` refuses it: {(out.stdout + out.stderr).strip()}"


def host_faults(name: str, rendered: Table, debian: dict[str, str], programs: Path | None) -> Iterator[str]:
    """Of one folder of hosts/."""
    loops = list(rendered["supervisor"]["loops"])
    for fault in unit_faults(rendered, debian, loops, ON_HOSTS):
        yield f"{name}: {fault}"
    if programs is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        for config in ("supervisor", "secrets", "proxy-shim"):
            text = "".join(f"{key} = {toml(value)}\n" for key, value in rendered[config].items())
            (Path(folder) / f"{config}.toml").write_text(text)
        checks = (
            (["supervisor", "check", "--static", "--config", f"{folder}/supervisor.toml"], {0}),
            (["secrets-placer", "check", "--static", "--manifest", f"{folder}/secrets.toml"], {0}),
            # It has no check for a machine that is not this one; not running is 3, a config that makes no sense 2.
            (["proxy-shim", "--config", f"{folder}/proxy-shim.toml", "status"], {0, 3}),
        )
        for (program, *args), fine in checks:
            for fault in refused([str(programs / program), *args], fine):
                yield f"{name}: {fault}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, help="the folder of the built programs")
    programs: Path | None = parser.parse_args().programs
    rendered = json.load(sys.stdin)
    debian = installed(programs)
    faults = [fault for host in rendered["hosts"].values() for fault in package_faults(host["bindir"], debian)]
    for name, scenario in rendered["scenarios"].items():
        faults += scenario_faults(name, scenario, debian)
    for name, host in rendered["hosts"].items():
        faults += host_faults(name, host, debian, programs)
    if not rendered["scenarios"] or not rendered["hosts"]:
        faults.append("there is no scenario, or no host: nothing was compared")
    for fault in faults:
        print(fault, file=sys.stderr)
    units = sum(len(scenario["units"]) for scenario in rendered["scenarios"].values())
    print(f"{len(rendered['scenarios'])} scenarios with {units} units, {len(rendered['hosts'])} hosts: {len(faults)} differ")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
