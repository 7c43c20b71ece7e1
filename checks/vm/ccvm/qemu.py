"""QEMU: which way it can run a guest here, its command line, its process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .errors import CannotRunHere

QEMU = "qemu-system-x86_64"
# A working KVM reaches the initrd within a second; one that does not run a stock kernel may hang.
KVM_PROBE_SECONDS = 10
# From the end of QEMU's connections to the end of its process, which writes a core dump in between where that is on.
END_SECONDS = 10
# Of what QEMU said before it ended.
LAST_LINES = 5


@dataclass(frozen=True)
class Accelerator:
    """How the guest's instructions are run."""

    name: str
    arguments: tuple[str, ...]


def tcg(version: tuple[int, int]) -> Accelerator:
    """Emulation, of both CPUs by one thread: with a thread each, one may use a device while the other moves it, as at the
    start after a reset, and QEMU aborts in iotlb_to_section (8.1 to 10.0; qemu-devel, 87y1h1ur1y.fsf@linaro.org).
    QEMU 7.2 gets cmpxchg16b wrong in a way that crashes a 6.12 kernel."""
    cpu = "max,-cx16" if version < (8, 0) else "max"
    return Accelerator("tcg", ("-accel", "tcg,thread=single", "-cpu", cpu))


KVM = Accelerator("kvm", ("-accel", "kvm", "-cpu", "host"))


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor version from `qemu-system-x86_64 --version`."""
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise CannotRunHere(f"`{QEMU} --version` prints no version: {text.strip()!r}")
    return int(match[1]), int(match[2])


def installed_version() -> tuple[int, int]:
    """The version of the QEMU that is on PATH."""
    return parse_version(subprocess.run([QEMU, "--version"], check=True, capture_output=True, text=True).stdout)


def choose(kernel: Path, initrd: Path) -> tuple[Accelerator, str]:
    """KVM if a stock kernel really runs under it here, else TCG; and why."""
    forced = os.environ.get("CC_CI_VM_ACCEL")
    emulation = tcg(installed_version())
    if forced in ("tcg", "kvm"):
        return (KVM if forced == "kvm" else emulation), "CC_CI_VM_ACCEL says so"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return emulation, "there is no /dev/kvm that may be used"
    if kvm_works(kernel, initrd):
        return KVM, "a kernel ran under it"
    return emulation, "there is a /dev/kvm, but the kernel did not run under it"


def kvm_works(kernel: Path, initrd: Path) -> bool:
    """Boots the guest's kernel without a disk: the initrd then says so and powers off."""
    with tempfile.TemporaryDirectory(prefix="cc-ci-kvm-") as folder:
        console = Path(folder) / "console"
        command = [
            *("setpriv", "--pdeathsig", "KILL", QEMU, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-machine", "q35", *KVM.arguments, "-m", "256", "-no-reboot", "-kernel", str(kernel)),
            *("-initrd", str(initrd), "-append", "console=ttyS0 quiet panic=-1", "-serial", f"file:{console}"),
        ]
        try:
            subprocess.run(command, timeout=KVM_PROBE_SECONDS, capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return False
        return console.exists() and b"no root filesystem" in console.read_bytes()


@dataclass(frozen=True)
class Hardware:
    """What a guest's machine is made of. Paths of sockets are in `folder`, which must be short (108 bytes)."""

    folder: Path
    console: Path
    kernel: Path
    initrd: Path
    disk: Path
    payload: Path | None
    payload_id: str
    memory: int
    accelerator: Accelerator
    # More disks, by serial number.
    disks: tuple[tuple[str, Path], ...] = ()
    node: int = 1
    # The other node's number, if the two share a network.
    peer: int | None = None
    # Where the two nodes' network sockets are.
    network: Path | None = None

    def command(self, allow_reboot: bool) -> list[str]:
        """QEMU's command line. QEMU dies with the thread that starts it."""
        kernel_arguments = [
            *("console=hvc0", "quiet", "loglevel=4", "net.ifnames=0", "mitigations=off", "random.trust_cpu=on"),
            # A panic before there is an hvc0 would be silent.
            "earlyprintk=ttyS0",
            # Ticks are late on a host that is short of CPU. Under KVM, Linux leaves this test out by itself.
            "no_timer_check",
            *("panic=1", f"cc_ci.node={self.node}", f"cc_ci.payload={self.payload_id}"),
        ]
        command = [
            *("setpriv", "--pdeathsig", "KILL", QEMU, "-nodefaults", "-no-user-config", "-display", "none"),
            *("-name", self.folder.name, "-machine", "q35", *self.accelerator.arguments, "-smp", "2"),
            *("-m", str(self.memory), "-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", " ".join(kernel_arguments)),
            *("-drive", f"file={self.disk},if=none,id=root,format=qcow2,cache=writeback"),
            *("-device", "virtio-blk-pci,drive=root"),
            # Two starts of a guest append to one log, and both consoles of a start.
            *("-chardev", f"file,id=early,path={self.console},append=on", "-serial", "chardev:early"),
            # One serial bus for the console and the driver's shell.
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-device", "virtconsole,chardev=console"),
            *("-chardev", f"socket,id=shell,path={self.folder}/shell,server=on,wait=off"),
            *("-device", "virtserialport,chardev=shell,name=cc-ci.shell"),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
            *("-netdev", "user,id=user,restrict=on", "-device", "virtio-net-pci,netdev=user,id=nic0,romfile="),
            *("-netdev", self.lan()),
            *("-device", f"virtio-net-pci,netdev=lan,id=nic1,romfile=,mac=52:54:00:12:01:{self.node:02x}"),
        ]
        if self.payload is not None:
            command += ["-drive", f"file={self.payload},if=none,id=payload,format=raw,readonly=on"]
            command += ["-device", "virtio-blk-pci,drive=payload"]
        for serial, disk in self.disks:
            command += ["-drive", f"file={disk},if=none,id={serial},format=qcow2,cache=writeback"]
            command += ["-device", f"virtio-blk-pci,drive={serial},serial={serial}"]
        if not allow_reboot:
            command.append("-no-reboot")
        return command

    def lan(self) -> str:
        """The network between the nodes; a node that is alone has one that leads nowhere."""
        if self.peer is None or self.network is None:
            return "user,id=lan,restrict=on,net=192.168.1.0/24"
        return (
            f"dgram,id=lan,local.type=unix,local.path={self.network}/node{self.node},"
            f"remote.type=unix,remote.path={self.network}/node{self.peer}"
        )


class Process:
    """QEMU's process. What it says is added to a file that outlives it."""

    def __init__(self, command: list[str], said: Path) -> None:
        self.said = said
        with said.open("ab") as file:
            self.said_before = file.tell()
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self.child.kill()
        self.child.wait()

    def tell(self) -> str:
        """How it ended, or that it runs: what explains that it does not answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            # That it still runs is an answer too.
            self.child.wait(END_SECONDS)
        text = self.said.read_bytes()[self.said_before :].decode(errors="replace")
        return tell_end(self.child.poll(), text)


def tell_end(status: int | None, text: str) -> str:
    """How QEMU ended, by its exit status (of Popen: -N is signal N; None: it runs) and what it said."""
    if status is None:
        how = "QEMU still runs"
    elif status < 0:
        how = f"QEMU was ended by {signal.Signals(-status).name}"
    elif status > 0:
        how = f"QEMU exited with {status}"
    else:
        how = "QEMU exited with 0: the guest powered itself off, or it was told to end"
    last = "; ".join(text.strip().splitlines()[-LAST_LINES:])
    return f"{how}; it said: {last}" if last else f"{how}; it said nothing"


def make_overlay(base: Path, overlay: Path) -> None:
    """A disk that has what `base` has, and keeps its own changes."""
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(base), "-F", "raw", str(overlay)],
        check=True,
    )


def make_blank(disk: Path) -> Path:
    """A disk with an ext4 and no files on it; the guest has nothing that makes one."""
    raw = disk.with_suffix(".raw")
    with raw.open("wb") as file:
        file.truncate(64 << 20)
    options = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", options, str(raw)], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()
    return disk


def wait_for_socket(path: Path, process: Process, seconds: float = 60) -> bool:
    """True when QEMU listens on the socket, False when it ended before or takes that long."""
    deadline = time.monotonic() + seconds
    while not is_listening(path):
        if process.child.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_listening(path: Path, table: Path = Path("/proc/net/unix")) -> bool:
    """Whether somebody accepts connections at the socket, which is a moment after its file is there."""
    accepts = 0x10000
    for line in table.read_text(errors="replace").splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and fields[7] == str(path) and int(fields[3], 16) & accepts:
            return True
    return False
