# The proxy between two machines: ssh through it, the way out killed and back, the shim killed, the network cut and
# back, the loop that needs it, a reboot. tailscale is a stand-in (guest/usr/local/bin) over a real SOCKS server.

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
    connect = f"proxy-shim connect {flag} --wait 2m --timeout 6m %h %p"
    through = f"-o 'ProxyCommand={connect}' -o ProxyUseFdpass={use}"
    return f"ssh -i /root/key -p 2222 {SSH_OPTIONS} {through} root@192.168.1.2 {command}"


def in_background(name, command):
    """Runs it as a unit of its own, which is there until it ended."""
    machine.succeed(f'systemd-run --quiet --collect --unit={name} -E PATH="$PATH" sh -c "{command}"')


def daemon():
    return machine.succeed("sed -n 2p /run/cc-ci-tailscaled/tailscaled.sock").strip()


def wait_for_loop(name, state):
    """Waits for the loop to be in that state; what the status says of it."""
    of = f'.loops[] | select(.name == "{name}")'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{of} | .state == \"{state}\"'", timeout=300)
    return json.loads(machine.succeed(f"supervisor status --json | jq '{of}'"))


def wait_until_held():
    """Waits until the loop that needs the proxy is held for that, and the other one runs."""
    held = wait_for_loop("builder", "held")
    holds = [hold for hold in held["holds"] if hold["kind"] == "needs"]
    assert len(holds) == 1 and holds[0]["what"].startswith("needs proxy"), held
    assert wait_for_loop("orchestrator", "up")["pid"], "the other loop"


def joins():
    return int(machine.succeed("wc -l </var/lib/cc-ci-tailscaled/ups"))


def refused():
    """What clients were told that did not get through. (One that has gone itself was told nothing.)"""
    return [failure for failure in proxy()["failures"] if not failure["why"].startswith("the client")]


def start_sshd(node):
    node.succeed(f"mkdir -p /run/sshd; {SSHD} -f /dev/null -p 2222 -h /root/key {SSHD_OPTIONS} >&2")


machine.start(allow_reboot=True)
peer.start()

with subtest("the machines have an ssh to talk by"):
    peer.wait_for_unit("multi-user.target", timeout=600)
    peer.succeed("ssh-keygen -q -t ed25519 -N '' -f /root/key")
    key = peer.succeed("cat /root/key")
    machine.wait_for_unit("multi-user.target", timeout=600)
    machine.succeed(f"umask 077; printf '%s' '{key}' >/root/key")
    start_sshd(peer)

with subtest("it joins once, and is ready"):
    machine.wait_until_succeeds(f"systemctl is-active {PROXY}", timeout=300)
    wait_until_up()
    now = proxy()
    assert (now["backend"], now["starts"]) == ("Running", 1), now
    assert joins() == 1
    assert machine.get_unit_property(PROXY, "StatusText").startswith("up; "), now

with subtest("the key shows nowhere"):
    # (The brackets keep the command from finding itself.)
    machine.fail("(cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ || true) | grep -az 'tskey-[g]ood'")
    machine.fail("journalctl -b --no-pager | grep 'tskey-[g]ood'")
    machine.fail("proxy-shim status --json | grep 'tskey-[g]ood'")

with subtest("ssh goes through it, with and without fdpass"):
    for fdpass in (False, True):
        got = machine.succeed(ssh("'head -c 3000000 /dev/zero | sha256sum'", fdpass))
        assert got == peer.succeed("head -c 3000000 /dev/zero | sha256sum"), got
        got = machine.succeed("head -c 3000000 /dev/zero | " + ssh("sha256sum", fdpass))
        assert got == peer.succeed("head -c 3000000 /dev/zero | sha256sum"), got

with subtest("with fdpass no process stays between"):
    in_background("open-ssh", ssh("'touch /tmp/there; sleep 1000'"))
    peer.wait_until_succeeds("test -e /tmp/there", timeout=300)
    machine.fail("pgrep -fx 'proxy-shim connect .*'")

with subtest("the way out is killed: what is open ends, what is new waits, nothing is refused"):
    before, told = daemon(), refused()
    machine.succeed(f"kill -KILL {before}")
    for n in range(3):
        assert machine.succeed(ssh(f"echo through {n}")) == f"through {n}\n"
    machine.wait_until_fails("systemctl is-active open-ssh.service", timeout=120)
    assert daemon() != before
    assert joins() == 1, "it joined again"
    assert refused() == told, refused()

with subtest("the shim is killed: tailscaled goes with it, both are back, a waiting client gets through"):
    before, shim = daemon(), machine.get_unit_property(PROXY, "MainPID")
    machine.succeed(f"systemctl kill --signal=KILL --kill-whom=main {PROXY}")
    # Until then it may still take a connection, which ends with it.
    machine.wait_until_fails(f"test -e /proc/{shim}", timeout=300)
    assert machine.succeed(ssh("echo back")) == "back\n"
    machine.fail(f"test -e /proc/{before}")

with subtest("the network is cut and back: what is new waits and gets through, nothing is refused"):
    wait_until_up()
    told = refused()
    machine.block()
    for n in range(3):
        in_background(f"waiting-ssh-{n}", ssh(f"touch /tmp/after-the-cut-{n}"))
    waiting = "proxy-shim status --json | jq -e '.connections.waiting >= 3 and .probes.peer.passed == false'"
    machine.wait_until_succeeds(waiting, timeout=300)
    machine.succeed("proxy-shim status | grep -F 'way out'")
    machine.fail("proxy-shim check --quiet")
    machine.unblock()
    for n in range(3):
        peer.wait_until_succeeds(f"test -e /tmp/after-the-cut-{n}", timeout=300)
    assert refused() == told, refused()
    wait_until_up()

with subtest("a loop that needs it is held while the network is away, and released when it is back"):
    wait_for_loop("builder", "up")
    machine.block()
    machine.succeed("supervisor stop builder")
    machine.wait_until_fails("proxy-shim check --quiet", timeout=300)
    machine.succeed("supervisor start builder")
    wait_until_held()
    machine.unblock()
    wait_for_loop("builder", "up")

with subtest("the same while the proxy itself is not there"):
    machine.succeed("supervisor stop builder")
    machine.succeed(f"systemctl stop {PROXY}")
    assert machine.execute("proxy-shim check --quiet")[0] == 3
    machine.succeed("supervisor start builder")
    wait_until_held()
    machine.succeed(f"systemctl start --no-block {PROXY}")
    wait_for_loop("builder", "up")

with subtest("after a reboot all of it is back by itself, without joining again"):
    boot = boot_id()
    machine.reboot()
    machine.wait_until_succeeds(f"systemctl is-active {PROXY}", timeout=600)
    assert boot_id() != boot
    wait_until_up()
    assert machine.succeed(ssh("echo again")) == "again\n"
    wait_for_loop("builder", "up")
    wait_for_loop("orchestrator", "up")
    assert joins() == 1, "it joined again"
