"""One driver process: the scenarios that share a guest, one after the other. Started by run.py, ended with it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import payload, qemu, scenario
from .errors import MachineError, RequestedAssertionFailed
from .image import Image
from .log import Log
from .machine import Machine
from .script import guarded, run_script, tell_failure


def main() -> int:
    parser = argparse.ArgumentParser(prog="drive", description=__doc__)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("scenarios", nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    known = scenario.find()
    log = Log(options.prefix)
    folder = Path(tempfile.mkdtemp(prefix="cc-ci-vm-"))
    machines: list[Machine] = []
    try:
        chosen = [known[name] for name in options.scenarios]
        machines = make_machines(chosen, options, folder, log)
        results = run_all(chosen, machines, log)
        (options.out / "results.json").write_text(json.dumps(results))
        if options.keep:
            keep(machines, log)
        return 1 if any(results.values()) else 0
    except KeyboardInterrupt:
        return 130
    finally:
        for machine in machines:
            guarded(machine.release, log)
        shutil.rmtree(folder)


def make_machines(
    chosen: list[scenario.Scenario], options: argparse.Namespace, folder: Path, log: Log
) -> list[Machine]:
    """The guests of the scenarios, powered off, with fresh disks."""
    packed = payload.make(chosen, options.binaries, folder / "payload.tar")
    image = Image(options.image)
    names = chosen[0].nodes
    accelerator = qemu.KVM if options.accelerator == "kvm" else qemu.tcg(qemu.installed_version())
    made = []
    for number, name in enumerate(names, start=1):
        own = folder / name
        own.mkdir()
        qemu.make_overlay(image.disk, own / "disk.qcow2")
        hardware = qemu.Hardware(
            folder=own,
            console=options.out / f"console-{name}.log",
            kernel=image.kernel,
            initrd=image.initrd,
            disk=own / "disk.qcow2",
            payload=packed.file,
            payload_id=packed.identity,
            memory=chosen[0].memory,
            accelerator=accelerator,
            disks=tuple((serial, qemu.make_blank(own / f"{serial}.qcow2")) for serial in chosen[0].disks),
            node=number,
            peer=3 - number if len(names) == 2 else None,
            network=folder,
        )
        made.append(Machine(name, hardware, log, options.out, chosen[0].crash))
    return made


def run_all(chosen: list[scenario.Scenario], machines: list[Machine], log: Log) -> dict[str, str | None]:
    """Runs the scenarios; what failed of each, or None."""
    results: dict[str, str | None] = {}
    for number, current in enumerate(chosen):
        began = time.monotonic()
        log.line(f"== {current.name}: {current.title} (budget {current.budget_minutes:g} min)")
        try:
            if number > 0:
                for machine in machines:
                    machine.crash_ways = machine.cycle(current.crash)
                    machine.start(allow_reboot=True)
                    # As if the guest had been installed with it.
                    machine.succeed(f"/usr/lib/cc-ci-test/scenario {current.name} now", timeout=900)
            results[current.name] = run_script(current, machines, log)
        except (MachineError, RequestedAssertionFailed) as error:
            tell_failure(error, current.script, machines, log)
            results[current.name] = f"it could not be set up: {error}"
        verdict = "FAILED" if results[current.name] else "ok"
        log.line(f"== {current.name}: {verdict}, {time.monotonic() - began:.0f} s")
    return results


def keep(machines: list[Machine], log: Log) -> None:
    """Leaves the guests up until Ctrl-C, with their shells free for somebody."""
    for machine in machines:
        if machine.shell is not None:
            machine.shell.close()
        log.line(f"{machine.name} stays up until Ctrl-C. A root shell: checks/run --shell {machine.hardware.folder}")
        log.line(f"  its console: tail -f {machine.hardware.console}")
    signal.pause()


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
