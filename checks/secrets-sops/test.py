# Secrets that sops-nix decrypts and the placer puts in place: there before the first agent starts. With a wrong key the
# loops that need them are held with that reason, and what was placed before stays. NixOS only.

KEY = "/var/lib/sops-nix/key.txt"
FILES = "/srv/cc-ci/.testenv /home/agent/.deploy/key"


def wait_until(name, state):
    """Waits until the loop is in that state, with an agent if that is `up`; the loop."""
    it_is = f'.loops[] | select(.name == "{name}") | .state == "{state}" and (.pid != null) == (.state == "up")'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{it_is}'", timeout=300)
    return loops()[name]


def placed():
    """Both files: owner, group, mode, inode, time and content."""
    return machine.succeed(f"stat -c '%n %U:%G %a %F %i %Y' {FILES} && cat {FILES}")


machine.start(allow_reboot=True)

with subtest("they are in place, as real files of their owner"):
    machine.wait_until_succeeds("systemctl is-active cc-ci-secrets.service", timeout=300)
    before = placed()
    assert before.count(" agent:agent 400 regular file ") == 2, before
    assert before.endswith("TEST_TOKEN=token-of-the-test\nkey-of-the-test"), before
    assert machine.succeed("stat -c '%U %a' /home/agent/.deploy").startswith("agent 7"), before
    machine.succeed("secrets-placer check")

with subtest("before the first agent, which has them"):
    agent = wait_until("builder", "up")
    machine.wait_until_succeeds(f"grep -z '^TEST_TOKEN=token-of-the-test' /proc/{agent['pid']}/environ", timeout=120)
    there = int(machine.get_unit_property("cc-ci-secrets.service", "ActiveEnterTimestampMonotonic"))
    started = int(machine.get_unit_property("cc-ci-session@builder.service", "ExecMainStartTimestampMonotonic"))
    assert 0 < there <= started, (there, started)

with subtest("nothing of them is in an argument or in the journal"):
    # (The brackets keep the command from finding itself.)
    machine.succeed("! grep -aqsz 'of-the-[t]est' /proc/[0-9]*/cmdline")
    machine.succeed("! journalctl -b --no-pager | grep -q 'of-the-[t]est'")

with subtest("with a wrong key the loop that needs them is held with that reason, and no other"):
    machine.succeed(f"cp {KEY} {KEY}.right", f"install -m600 /etc/cc-ci-test-wrong-key {KEY}")
    machine.reboot()
    wait_until("orchestrator", "up")
    held = wait_until("builder", "held")
    assert "needs" in [hold["kind"] for hold in held["holds"]], held
    assert "cc-ci-secrets.service" in machine.succeed("supervisor explain builder")
    machine.fail("test -e /run/secrets/testenv")
    assert machine.execute("systemctl is-active cc-ci-secrets.service")[0] != 0

with subtest("what was placed before is as it was"):
    assert placed() == before, (before, placed())

with subtest("with the right key it goes on by itself"):
    machine.succeed(f"mv {KEY}.right {KEY}", "systemctl restart sops-install-secrets.service")
    machine.wait_until_succeeds("systemctl is-active cc-ci-secrets.service", timeout=300)
    wait_until("builder", "up")
    assert placed() == before, (before, placed())
