"""What a guest is made of: the cache's key, the payload, QEMU's command line."""

import socket
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from ccvm import image, payload, qemu, scenario
from ccvm.errors import CannotRunHere, MachineError


class TheCache(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.recipe = Path(folder.name) / "recipe"
        self.recipe.mkdir()
        self.init = self.recipe / "init"
        self.init.write_text("true\n")
        self.builder = Path(folder.name) / "builder.py"
        self.builder.write_text("pass\n")

    def key(self) -> str:
        return image.recipe_hash(self.recipe, self.builder)

    def test_the_same_recipe_is_the_same_image(self) -> None:
        self.assertEqual(self.key(), self.key())

    def test_another_content_name_mode_or_builder_is_another_image(self) -> None:
        keys = [self.key()]
        for change in (
            lambda: self.init.write_text("TRUE\n"),
            lambda: self.init.chmod(0o755),
            lambda: self.init.rename(self.recipe / "itin"),
            lambda: (self.recipe / "packages").write_text(""),
            lambda: self.builder.write_text("..."),
        ):
            change()
            keys.append(self.key())
        self.assertEqual(len(set(keys)), len(keys))

    def test_lists_have_comments(self) -> None:
        (self.recipe / "packages").write_text("# why\n\nsystemd-sysv\n  tmux \n")
        self.assertEqual(image.listed(self.recipe / "packages"), ["systemd-sysv", "tmux"])


class ThePayload(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "supervisor").write_bytes(b"one")
        self.known = scenario.find()

    def make(self, *names: str) -> payload.Payload:
        return payload.make([self.known[name] for name in names], self.folder, self.folder / "payload.tar")

    def test_the_same_software_is_the_same_payload_and_other_software_another(self) -> None:
        first = self.make("reboot").identity
        self.assertEqual(first, self.make("reboot").identity)
        (self.folder / "supervisor").write_bytes(b"two")
        self.assertNotEqual(first, self.make("reboot").identity)

    def test_it_has_the_program_the_units_the_config_and_the_names_of_its_loops(self) -> None:
        with tarfile.open(self.make("reboot", "driver").file) as tar:
            names = set(tar.getnames())
            loops = tar.extractfile("usr/lib/cc-ci-test/scenarios/reboot/loops")
            first = tar.extractfile("usr/lib/cc-ci-test/first-scenario")
            assert loops is not None and first is not None
            self.assertEqual(loops.read(), b"adversary\nbuilder\norchestrator\n")
            self.assertEqual(first.read(), b"reboot")
        for name in (
            "software/bin/supervisor",
            "software/tools/install.sh",
            "software/modules/units/cc-ci-session@.service",
            "scenarios/reboot/supervisor.toml",
            "provision",
        ):
            self.assertIn(f"usr/lib/cc-ci-test/{name}", names)
        self.assertIn("usr/local/bin/cc-ci-test-agent", names)

    def test_cargo_says_where_the_programs_are(self) -> None:
        built = '{"executable":"/t/release/a"}\n{"executable":"/t/release/b"}\n'
        messages = '{"reason":"a","executable":null}\n' + built
        self.assertEqual(payload.folder_of_binaries(messages), Path("/t/release"))
        with self.assertRaises(MachineError):
            payload.folder_of_binaries('{"reason":"build-finished"}\n')

    def test_a_build_for_a_test_is_no_release_and_is_kept_apart(self) -> None:
        done = mock.Mock(returncode=0, stdout='{"executable":"/t/debug/supervisor"}\n')
        with (
            mock.patch.dict("os.environ", {"CARGO_TARGET_DIR": "/t"}, clear=True),
            mock.patch.object(payload.subprocess, "run", return_value=done) as run,
            mock.patch.object(payload, "stripped", lambda _, folder: folder),
        ):
            self.assertEqual(payload.build_binaries("test-x"), Path("/t/vm-test-x/stripped"))
            with_feature = run.call_args.args[0]
            payload.build_binaries("release")
            release = run.call_args.args[0]
        self.assertIn("--features test-x --target-dir /t/vm-test-x", " ".join(with_feature))
        self.assertNotIn("--release", with_feature)
        self.assertIn("--release", release)
        self.assertNotIn("--features", release)


def hardware(**changes: object) -> qemu.Hardware:
    given: dict[str, object] = {
        **{name: Path(f"/x/{name}") for name in ("folder", "console", "kernel", "initrd", "disk", "payload")},
        **{"payload_id": "abc", "memory": 768, "accelerator": qemu.tcg((10, 0))},
    }
    return qemu.Hardware(**(given | changes))  # type: ignore[arg-type]


class TheCommandLine(unittest.TestCase):
    def test_the_version_that_breaks_cmpxchg16b_goes_without_it(self) -> None:
        self.assertIn("max,-cx16", qemu.tcg((7, 2)).arguments)
        self.assertIn("max", qemu.tcg((10, 0)).arguments)

    def test_both_cpus_are_emulated_by_one_thread(self) -> None:
        self.assertIn("tcg,thread=single", qemu.tcg((10, 0)).arguments)

    def test_versions_are_read_and_nonsense_is_refused(self) -> None:
        self.assertEqual(qemu.parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg)"), (7, 2))
        with self.assertRaises(CannotRunHere):
            qemu.parse_version("command not found")

    def test_qemu_dies_with_its_driver(self) -> None:
        self.assertEqual(hardware().command(True)[:4], ["setpriv", "--pdeathsig", "KILL", qemu.QEMU])

    def test_a_guest_reaches_nothing_outside_and_nothing_listens_on_tcp(self) -> None:
        command = hardware().command(True)
        networks = [value for option, value in zip(command, command[1:], strict=False) if option == "-netdev"]
        self.assertEqual(len(networks), 2)
        for network in networks:
            self.assertIn("restrict=on", network)
            self.assertNotIn("hostfwd", network)
        self.assertNotIn("tcp:", " ".join(command))

    def test_a_disk_that_a_scenario_asks_for_comes_last_with_its_serial_number(self) -> None:
        command = hardware(disks=(("workspace", Path("/x/w.qcow2")),)).command(True)
        devices = [value for option, value in zip(command, command[1:], strict=False) if option == "-device"]
        self.assertEqual(devices[-1], "virtio-blk-pci,drive=workspace,serial=workspace")
        self.assertIn("file=/x/w.qcow2,if=none,id=workspace,format=qcow2,cache=writeback", command)

    def test_two_nodes_are_each_others_only_neighbour(self) -> None:
        first = hardware(node=1, peer=2, network=Path("/n")).lan()
        second = hardware(node=2, peer=1, network=Path("/n")).lan()
        self.assertIn("local.path=/n/node1,remote.type=unix,remote.path=/n/node2", first)
        self.assertIn("local.path=/n/node2,remote.type=unix,remote.path=/n/node1", second)

    def test_a_panic_before_the_console_is_on_the_consoles_log(self) -> None:
        command = hardware().command(True)
        self.assertIn("earlyprintk=ttyS0", command[command.index("-append") + 1].split())
        self.assertEqual(command[command.index("-serial") + 1], "chardev:early")
        self.assertIn("file,id=early,path=/x/console,append=on", command)

    def test_a_reboot_ends_a_guest_unless_it_is_allowed(self) -> None:
        self.assertNotIn("-no-reboot", hardware().command(allow_reboot=True))
        self.assertIn("-no-reboot", hardware().command(allow_reboot=False))

    def test_a_socket_that_is_bound_and_does_not_listen_yet_is_waited_for(self) -> None:
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
            path = Path(folder) / "qmp"
            server.bind(str(path))
            self.assertTrue(path.exists())
            self.assertFalse(qemu.is_listening(path))
            server.listen()
            self.assertTrue(qemu.is_listening(path))

    def test_kvm_is_taken_only_when_a_kernel_runs_under_it(self) -> None:
        kernel = initrd = Path("/dev/null")
        with (
            mock.patch.dict("os.environ", clear=True),
            mock.patch.object(qemu, "installed_version", lambda: (10, 0)),
            mock.patch("os.access", lambda *_: True),
        ):
            for works, name in ((True, "kvm"), (False, "tcg")):
                with mock.patch.object(qemu, "kvm_works", lambda *_, works=works: works):
                    self.assertEqual(qemu.choose(kernel, initrd)[0].name, name)
