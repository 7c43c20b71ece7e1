# A real tailnet: the machine joins it in userspace, by a key from a file, and has no way into it but 127.0.0.1:1055. ssh
# goes through that, the network goes away and comes back, the machine reboots. NixOS only.

PROXY = "cc-ci-tailscaled.service"
KEY = "/var/lib/cc-ci-test/auth-key"


def wait_until(name, state):
    """Waits until the loop is in that state; the loop."""
    it_is = f'.loops[] | select(.name == "{name}" and .state == "{state}")'
    return json.loads(
        machine.wait_until_succeeds(f"set -o pipefail; supervisor status --json | jq -ce '{it_is}'", timeout=600)
    )


def wait_for_proxy():
    machine.wait_until_succeeds("proxy-shim check --quiet --timeout 30s", timeout=600)


def nodes():
    """The machines that the control server knows: none may join twice."""
    return sorted(node["given_name"] for node in json.loads(control.succeed("headscale nodes list -o json")))


def ssh_in_background(unit, command):
    machine.succeed(f'systemd-run --quiet --collect --unit={unit} -E PATH="$PATH" -E HOME=/root ssh far {command}')


control.start()
far.start()
machine.start(allow_reboot=True)

with subtest("there is a control server, and a machine in its tailnet"):
    control.wait_for_unit("headscale.service", timeout=600)
    control.wait_for_open_port(443, timeout=600)
    control.succeed("headscale users create test")
    key = control.succeed("headscale preauthkeys -u 1 create --reusable").strip()
    far.wait_for_unit("tailscaled.service", timeout=600)
    far.succeed(f"tailscale up --login-server https://control --auth-key {key}", timeout=300)
    machine.wait_for_unit("multi-user.target", timeout=600)
    machine.succeed("ssh-keygen -q -t ed25519 -N '' -f /root/key")
    public = machine.succeed("cat /root/key.pub").strip()
    far.succeed(f"mkdir -p /root/.ssh && echo '{public}' >/root/.ssh/authorized_keys")

with subtest("without a key nobody waits for the proxy but the loop that needs it"):
    held = wait_until("builder", "held")
    assert "needs" in [hold["kind"] for hold in held["holds"]], held
    wait_until("orchestrator", "up")
    machine.fail("ssh -o ConnectTimeout=20 -o ProxyCommand=none root@far.tailnet.test true 2>&1")

with subtest("it joins with the key as soon as that is there"):
    machine.succeed(f"umask 077; mkdir -p /var/lib/cc-ci-test; echo '{key}' >{KEY}.new; mv {KEY}.new {KEY}")
    machine.wait_until_succeeds(f"systemctl is-active {PROXY}", timeout=600)
    wait_for_proxy()
    wait_until("builder", "up")
    assert nodes() == ["far", "machine"], nodes()

with subtest("in userspace: no interface, and the key shows nowhere"):
    machine.fail("ip link show tailscale0 2>&1")
    machine.succeed(f"! grep -aqsz -e '{key[:8]}[{key[8]}]{key[9:]}' /proc/[0-9]*/cmdline /proc/[0-9]*/environ")
    machine.succeed(f"! journalctl -b --no-pager -u {PROXY} | grep -qe '{key}'")

with subtest("ssh goes through it, and so does any SOCKS client"):
    assert machine.succeed("ssh far hostname") == "far\n"
    got = machine.succeed("head -c 300000 /dev/zero | ssh far sha256sum")
    assert got == far.succeed("head -c 300000 /dev/zero | sha256sum"), got
    machine.succeed("nc -z -X 5 -x 127.0.0.1:1055 far.tailnet.test 22")

with subtest("the network is cut and back: what is new waits, and gets through"):
    machine.block()
    machine.wait_until_succeeds("proxy-shim status --json | jq -e '.probes.far.passed == false'", timeout=300)
    ssh_in_background("waiting-ssh", "touch /tmp/after-the-cut")
    machine.sleep(5)
    far.fail("test -e /tmp/after-the-cut")
    machine.unblock()
    far.wait_until_succeeds("test -e /tmp/after-the-cut", timeout=300)
    wait_for_proxy()

with subtest("after a reboot it is back by itself, as the same machine"):
    machine.reboot()
    wait_for_proxy()
    assert machine.succeed("ssh far hostname") == "far\n"
    wait_until("builder", "up")
    assert nodes() == ["far", "machine"], nodes()
