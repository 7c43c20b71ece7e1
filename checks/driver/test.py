# What the other scenarios lean on: the methods of `machine`, with a real guest. Runs on the NixOS driver as well.
import time

machine.start(allow_reboot=True)
machine.wait_for_unit("multi-user.target")


def raises(text, action):
    """The action must raise, and the error must say why."""
    try:
        action()
    except Exception as error:
        assert text in str(error), f"{text!r} is not in {error!r}"
    else:
        raise AssertionError(f"nothing was raised, {text!r} was expected")


# The second CPU writes to its timer all the time; the first turns the memory of eth1's device off and on, which
# rebuilds QEMU's map of the devices, as Linux does it when it finds them.
MOVE_A_DEVICE = """
import os, time
device = os.path.realpath("/sys/class/net/eth1/device")
driver = os.path.realpath(device + "/driver")
with open(driver + "/unbind", "w") as file:
    file.write(os.path.basename(device))
end = time.monotonic() + 8
if os.fork() == 0:
    os.sched_setaffinity(0, {1})
    while time.monotonic() < end:
        time.sleep(0.00005)
    os._exit(0)
os.sched_setaffinity(0, {0})
command = os.open(os.path.dirname(device) + "/config", os.O_RDWR)
while time.monotonic() < end:
    os.pwrite(command, bytes([0x00, 0x04]), 4)
    os.pwrite(command, bytes([0x06, 0x04]), 4)
assert os.wait()[1] == 0
with open(driver + "/bind", "w") as file:
    file.write(os.path.basename(device))
"""


with subtest("commands run as root's bash, strictly, and give status and standard output"):
    assert machine.succeed("id -un; echo $HOME") == "root\n/root\n"
    assert machine.execute("exit 7") == (7, "")
    assert machine.execute("false | cat; echo not reached")[0] == 1
    assert machine.execute('echo "$nothing_has_this_name"')[0] != 0
    assert machine.succeed("echo one", "echo two >&2; echo three") == "one\nthree\n"
    assert machine.succeed("echo '$quoted' \"a  b\" | cat") == "$quoted a  b\n"
    assert machine.fail("echo told; exit 3") == "told\n"
    raises("command `exit 3` failed (exit code 3)", lambda: machine.succeed("exit 3"))
    raises("command `true` unexpectedly succeeded", lambda: machine.fail("true"))

with subtest("output may be binary, long, and without a last line's end"):
    assert machine.execute(r"printf 'a\xff\x00b'") == (0, "a\ufffd\x00b")
    big = machine.succeed("seq 1 200000")
    assert big == "".join(f"{number}\n" for number in range(1, 200001))

with subtest("a command has a time limit, and the shell is there after it"):
    assert machine.execute("sleep 100", timeout=1)[0] == 124
    assert machine.succeed("echo still here") == "still here\n"
    machine.execute("sleep 1000 >&2 &", timeout=20)

with subtest("waiting ends when it may, and fails when it must"):
    machine.succeed("(sleep 2; touch /tmp/appears) >&2 &")
    machine.wait_for_file("/tmp/appears", timeout=60)
    machine.wait_until_succeeds("rm /tmp/appears", timeout=60)
    machine.wait_until_fails("test -e /tmp/appears", timeout=60)
    raises("timed out", lambda: machine.wait_until_succeeds("false", timeout=2))
    raises("timed out", lambda: machine.wait_for_open_port(4711, timeout=1))
    machine.succeed("systemd-run --unit listener nc -lk 127.0.0.1 4711")
    machine.wait_for_open_port(4711, addr="127.0.0.1", timeout=60)
    machine.succeed("systemctl stop listener")
    machine.wait_for_closed_port(4711, addr="127.0.0.1", timeout=60)

with subtest("a unit that failed, or that nothing starts, is not waited for"):
    machine.execute("systemd-run --unit fails --service-type=oneshot false")
    began = time.monotonic()
    raises('unit "fails.service" reached state "failed"', lambda: machine.wait_for_unit("fails.service"))
    raises("is inactive and there are no pending jobs", lambda: machine.wait_for_unit("no-such-unit.service"))
    assert time.monotonic() - began < 300
    machine.succeed("systemd-run --unit runs sleep 1000")
    machine.wait_for_unit("runs.service")
    machine.require_unit_state("runs.service")
    assert machine.get_unit_property("runs.service", "SubState") == "running"
    assert machine.get_unit_info("runs.service")["ActiveState"] == "active"
    assert machine.systemctl("is-active runs.service") == (0, "active\n")

with subtest("units of a user are asked for in the user's own manager"):
    machine.succeed("loginctl enable-linger agent")
    machine.wait_for_unit("default.target", "agent", timeout=120)

with subtest("files go into the guest and keep their modes"):
    with open("/tmp/cc-ci-driver-test", "wb") as file:
        file.write(bytes(range(256)) * 4096)
    os.chmod("/tmp/cc-ci-driver-test", 0o750)
    machine.copy_from_host("/tmp/cc-ci-driver-test", "/root/deep/er/file")
    os.unlink("/tmp/cc-ci-driver-test")
    assert machine.succeed("stat -c '%s %a %U' /root/deep/er/file") == "1048576 750 root\n"
    assert machine.succeed("sha256sum </root/deep/er/file").startswith(
        "fbbab289f7f94b25736c58be46a994c441fd02552cc6022352e3d86d2fab7c83"
    )

with subtest("the network between nodes can be cut"):
    carrier = "cat /sys/class/net/eth1/carrier"
    machine.wait_until_succeeds(f"{carrier} | grep 1", timeout=60)
    machine.block()
    machine.wait_until_succeeds(f"{carrier} | grep 0", timeout=60)
    machine.unblock()
    machine.wait_until_succeeds(f"{carrier} | grep 1", timeout=60)

with subtest("a CPU may use a device while the other one moves devices"):
    # QEMU that emulates each CPU in a thread of its own aborts within seconds of it.
    machine.succeed("python3 - <<'EOF'\n" + MOVE_A_DEVICE + "EOF", timeout=300)

with subtest("nothing outside is reachable"):
    machine.fail("timeout 5 nc -z 10.0.2.2 22")
    machine.fail("timeout 5 nc -z 1.1.1.1 53")

with subtest("the console is read"):
    machine.succeed("echo console-says-$((40 + 2)) >/dev/console")
    machine.wait_for_console_text("console-says-42", timeout=60)
    assert "console-says-42" in machine.get_console_log()

with subtest("a reboot is a new boot of the same disk"):
    before = boot_id()
    machine.succeed("echo kept >/root/kept")
    machine.reboot()
    assert boot_id() != before
    assert machine.succeed("cat /root/kept") == "kept\n"

for cut in range(3):
    with subtest(f"what was synced survives a crash, and what was only just written does not ({cut})"):
        before = boot_id()
        machine.succeed(f"echo {cut} >/root/synced; sync")
        machine.succeed(f"echo {cut} >/root/unsynced.{cut}")
        machine.crash()
        machine.start(allow_reboot=True)
        assert boot_id() != before
        assert machine.succeed("cat /root/synced") == f"{cut}\n"
        machine.fail(f"grep . /root/unsynced.{cut}")

with subtest("a guest that was shut down starts again"):
    before = boot_id()
    machine.succeed("echo kept too >/root/kept")
    machine.shutdown()
    machine.start(allow_reboot=True)
    machine.wait_for_unit("multi-user.target")
    assert boot_id() != before
    assert machine.succeed("cat /root/kept") == "kept too\n"
