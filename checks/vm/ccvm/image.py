"""The guest's disk, kernel and initrd: built once from recipe/, kept in a cache under the hash of the recipe.

The software under test is not in it (payload.py), so a changed line of code builds nothing here.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import CannotRunHere, MachineError
from .log import Log

RECIPE = Path(__file__).parent.parent / "recipe"
MIRROR = os.environ.get("CC_CI_DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITE = "trixie"
DISK_SIZE = "3G"
# What the disk and the network need and the kernel has not built in, in the order in which they are loaded.
MODULES = ("net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net", "drivers/block/virtio_blk")


@dataclass(frozen=True)
class Image:
    """A built guest. None of its files is ever written again."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk.raw"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"


def cache_folder() -> Path:
    """$CC_CI_VM_CACHE, or cc-ci-vm in the user's cache."""
    named = os.environ.get("CC_CI_VM_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cc-ci-vm"


def recipe_hash(recipe: Path = RECIPE, builder: Path = Path(__file__)) -> str:
    """A short hash of everything that the image is made from: names, contents, executable bits, and the builder."""
    digest = hashlib.sha256(builder.read_bytes() + MIRROR.encode())
    for path in sorted(recipe.rglob("*")):
        if path.is_file():
            kind = "x" if os.access(path, os.X_OK) else "-"
            digest.update(f"{path.relative_to(recipe)} {kind} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def listed(path: Path) -> list[str]:
    """The lines of a list file that are neither empty nor comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock: of two builders one waits for the other, and then finds the work done."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ensure(log: Log) -> Image:
    """The image of the recipe as it is now; builds it if the cache has none."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    image = Image(cache / f"guest-{recipe_hash()}")
    with locked(cache / f"{image.folder.name}.lock"):
        if not image.folder.exists():
            if os.geteuid() != 0:
                raise CannotRunHere("only root can build the guest (mmdebstrap, owners of files)")
            with log.nested(f"building the guest {image.folder}"):
                # Beside its place, so that a half built one is never taken for a whole one.
                with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as temporary:
                    build(Path(temporary), log)
                    (Path(temporary) / "image").rename(image.folder)
    return image


def build(temporary: Path, log: Log) -> None:
    """Makes temporary/image."""
    root, result = temporary / "root", temporary / "image"
    result.mkdir()
    root.mkdir()
    run("tar", "-x", "--xattrs", "--xattrs-include=*", "-C", str(root), "-f", str(debian(temporary.parent, log)))
    customise(root)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    shutil.copy(kernel, result / "vmlinuz")
    make_initrd(root, kernel.name.removeprefix("vmlinuz-"), temporary / "initrd", result / "initrd")
    for unneeded in [*(root / "boot").iterdir(), *(root / "var/cache/apt").glob("*.bin")]:
        unneeded.unlink()
    with log.nested("mke2fs"):
        run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(root), str(result / "disk.raw"), DISK_SIZE)


def debian(cache: Path, log: Log) -> Path:
    """A tar of Debian with the packages; of its own in the cache, since it takes longest and changes least."""
    packages = ",".join(listed(RECIPE / "packages"))
    name = hashlib.sha256(f"{SUITE} {MIRROR} {packages}".encode()).hexdigest()[:16]
    result = cache / f"debian-{name}.tar"
    with locked(cache / f"{result.name}.lock"):
        if not result.exists():
            with log.nested("mmdebstrap"), tempfile.TemporaryDirectory(dir=cache, prefix="building-") as temporary:
                made = Path(temporary) / "root.tar"
                try:
                    run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}", SUITE, str(made), MIRROR)
                except MachineError as error:
                    raise CannotRunHere(f"Debian cannot be had: {error}") from error
                made.rename(result)
    return result


def customise(root: Path) -> None:
    """What the guest has that Debian has not."""
    shutil.copytree(RECIPE / "root", root, dirs_exist_ok=True)
    for unit in listed(RECIPE / "masked"):
        link_to_nothing(root / "etc/systemd/system" / unit)
    for generator in listed(RECIPE / "masked-generators"):
        link_to_nothing(root / "etc/systemd/system-generators" / generator)
    for command in (
        ("systemctl", "enable", "cc-ci-test-backdoor.service"),
        ("systemctl", "set-default", "multi-user.target"),
        ("systemd-machine-id-setup",),
    ):
        run("chroot", str(root), *command)
    (root / "etc/hostname").write_text("machine\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost machine\n::1 localhost\n")
    (root / "etc/fstab").unlink(missing_ok=True)


def link_to_nothing(path: Path) -> None:
    """Masks a unit or a generator."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null")


def make_initrd(root: Path, release: str, work: Path, result: Path) -> None:
    """A few modules, busybox and recipe/init: a tenth of the time that Debian's own takes under emulation."""
    (work / "bin").mkdir(parents=True)
    (work / "modules").mkdir()
    shutil.copy(root / "usr/bin/busybox", work / "bin/busybox")
    shutil.copy(RECIPE / "init", work / "init")
    names = []
    for module in MODULES:
        packed = root / "lib/modules" / release / "kernel" / f"{module}.ko.xz"
        name = f"{packed.name.removesuffix('.ko.xz')}.ko"
        (work / "modules" / name).write_bytes(lzma.decompress(packed.read_bytes()))
        names.append(name)
    (work / "modules/order").write_text("".join(f"{name}\n" for name in names))
    with result.open("wb") as file:
        find = subprocess.run(["find", "."], cwd=work, check=True, capture_output=True)
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=work, input=find.stdout, stdout=file, check=True
        )


def run(*command: str) -> None:
    """Runs a command; its output is in the error if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MachineError(f"building the guest: `{command[0]}` exited with {done.returncode}: {done.stderr[-2000:]}")
