# The proxy between two machines: ssh through it, the way out killed and back, the shim killed. tailscale is a stand-in
# (guest/usr/local/bin) over a real SOCKS server.
import json

PROXY = "cc-ci-tailscaled.service"
SSHD = "$(command -v sshd || echo /usr/sbin/sshd)"
SSHD_OPTIONS = "-o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes -o AuthorizedKeysFile=/root/key.pub"
SSH_OPTIONS = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"


def proxy():
    return json.loads(machine.succeed("proxy-shim status --json"))


def wait_until_up():
    machine.wait_until_succeeds("proxy-shim check --quiet --timeout 30s", timeout=300)


def ssh(command, fdpass=True):
    """ssh to the other machine, through the proxy."""
    flag, use = ("--fdpass", "yes") if fdpass else ("", "no")
    connect = f"proxy-shim connect {flag} --wait 2m --timeout 3m %h %p"
    through = f"-o 'ProxyCommand={connect}' -o ProxyUseFdpass={use}"
    return f"ssh -i /root/key -p 2222 {SSH_OPTIONS} {through} root@192.168.1.2 {command}"


def in_background(name, command):
    """Runs it as a unit of its own, which is there until it ended."""
    machine.succeed(f'systemd-run --quiet --collect --unit={name} -E PATH="$PATH" sh -c "{command}"')


def daemon():
    return machine.succeed("sed -n 2p /run/cc-ci-tailscaled/tailscaled.sock").strip()


def start_sshd(node):
    node.succeed(f"mkdir -p /run/sshd; {SSHD} -f /dev/null -p 2222 -h /root/key {SSHD_OPTIONS} >&2")


machine.start(allow_reboot=True)
far.start()

with subtest("the machines have an ssh to talk by"):
    far.wait_for_unit("multi-user.target", timeout=600)
    far.succeed("ssh-keygen -q -t ed25519 -N '' -f /root/key")
    key = far.succeed("cat /root/key")
    machine.wait_for_unit("multi-user.target", timeout=600)
    machine.succeed(f"umask 077; printf '%s' '{key}' >/root/key")
    start_sshd(far)

with subtest("it joins once, and is ready"):
    machine.wait_until_succeeds(f"systemctl is-active {PROXY}", timeout=300)
    wait_until_up()
    status = proxy()
    assert (status["backend"], status["starts"]) == ("Running", 1), status
    assert machine.succeed("wc -l </var/lib/cc-ci-tailscaled/ups").strip() == "1"
    assert machine.get_unit_property(PROXY, "StatusText").startswith("up; "), status

with subtest("the key shows nowhere"):
    # (The brackets keep the command from finding itself.)
    machine.fail("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | grep -az 'tskey-[g]ood'")
    machine.fail("journalctl -b --no-pager | grep 'tskey-[g]ood'")
    machine.fail("proxy-shim status --json | grep 'tskey-[g]ood'")

with subtest("ssh goes through it, with and without fdpass"):
    for fdpass in (False, True):
        got = machine.succeed(ssh("'head -c 3000000 /dev/zero | sha256sum'", fdpass))
        assert got == far.succeed("head -c 3000000 /dev/zero | sha256sum"), got
        got = machine.succeed("head -c 3000000 /dev/zero | " + ssh("sha256sum", fdpass))
        assert got == far.succeed("head -c 3000000 /dev/zero | sha256sum"), got

with subtest("with fdpass no process stays between"):
    in_background("open-ssh", ssh("'touch /tmp/there; sleep 1000'"))
    far.wait_until_succeeds("test -e /tmp/there", timeout=60)
    machine.fail("pgrep -fx 'proxy-shim connect .*'")

with subtest("the way out is killed: what is open ends, what is new waits, nothing is refused"):
    before = daemon()
    machine.succeed(f"kill -KILL {before}")
    for n in range(3):
        assert machine.succeed(ssh(f"echo through {n}")) == f"through {n}\n"
    machine.wait_until_fails("systemctl is-active open-ssh.service", timeout=120)
    assert daemon() != before
    assert machine.succeed("wc -l </var/lib/cc-ci-tailscaled/ups").strip() == "1", "it joined again"
    refused = [f for f in proxy()["failures"] if "no way out" in f["why"]]
    assert refused == [], refused

with subtest("the shim is killed: tailscaled goes with it, both are back, a waiting client gets through"):
    before = daemon()
    machine.succeed(f"systemctl kill --signal=KILL --kill-whom=main {PROXY}")
    assert machine.succeed(ssh("echo back")) == "back\n"
    machine.fail(f"test -e /proc/{before}")
