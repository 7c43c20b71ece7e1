# Secrets are placed before the agents that read them start, also after a reboot and two power cuts; a changed one
# arrives, a broken one changes nothing; a user's races get nothing; and no value is anywhere else. In the guest:
# `cc-ci-test-sources` stands in for sops-nix, `cc-ci-test-reader` for an agent, `cc-ci-test-race` plays the tricks.

SECRETS = "cc-ci-secrets.service"
LOOPS = ["builder", "orchestrator"]
TESTENV = "/home/agent/.testenv"
# Where each goes, with its owner, group and mode.
PLACED = {
    "testenv": (TESTENV, "600 agent:agent"),
    "ssh-key": ("/home/agent/.keys/deep/ssh-key", "400 agent:agent"),
    "roots": ("/etc/cc-ci-test-secrets/roots", "440 root:agent"),
}
VALUES = "/run/cc-ci-test-values"


def wait_until_up(*names):
    for name in names:
        up = f'.loops[] | select(.name == "{name}" and .state == "up" and .pid != null)'
        machine.wait_until_succeeds(f"supervisor status --json | jq -e '{up}'", timeout=600)


def sum_of(path):
    """No value is said to the driver, nor in a command."""
    return machine.succeed(f"sha256sum <{path}").split()[0]


def at(unit, event):
    """When, in microseconds since the boot."""
    return int(machine.get_unit_property(unit, f"{event}TimestampMonotonic"))


def wait_until_placed():
    machine.wait_until_succeeds(f"systemctl is-active {SECRETS}", timeout=600)


def check_start():
    """Of the boot that just was: what agents found when they started is what there is, and all of it is in order."""
    wait_until_placed()
    wait_until_up(*LOOPS)
    for name in LOOPS:
        machine.wait_until_succeeds(f"grep -qx {boot_id()} /srv/cc-ci/{name}/found", timeout=600)
        machine.wait_until_succeeds(f"[ $(wc -l </srv/cc-ci/{name}/found) = 2 ]", timeout=60)
        found = machine.succeed(f"tail -n 1 /srv/cc-ci/{name}/found").split()[0]
        assert found == sum_of("/run/secrets/testenv"), f"{name} started without its secret: {found}"
    placed = at(SECRETS, "ActiveEnter")
    for unit in [SUPERVISOR, "cc-ci-tailscaled.service", *(f"cc-ci-session@{name}.service" for name in LOOPS)]:
        started = at(unit, "InactiveExit")
        # 0: it is not used here.
        assert started == 0 and "tailscaled" in unit or placed <= started, (unit, placed, started)
    check_files()


def check_files():
    for name, (path, rights) in PLACED.items():
        assert sum_of(path) == sum_of(f"/run/secrets/{name}"), f"{path} is not the secret"
        found = machine.succeed(f"stat -c '%a %U:%G' {path}").strip()
        assert found == rights, (path, found)
    machine.succeed("secrets-placer check")


def inodes():
    return machine.succeed("stat -c %i " + " ".join(path for path, _ in PLACED.values()))


def said_by_unit():
    # What it printed last need not be in the journal yet when it has ended.
    machine.succeed("journalctl --sync", timeout=300)
    return machine.succeed(f"journalctl -b --no-pager -o cat -u {SECRETS}")


machine.start(allow_reboot=True)

with subtest("secrets are there before the first agent starts"):
    check_start()
    assert "3 secrets, 3 placed, 0 as they were" in said_by_unit()

with subtest("with the owner, group and mode that were asked for, missing folders too"):
    check_files()
    # (The file in the last one is for a group.)
    folders = {"/home/agent/.keys": "agent", "/home/agent/.keys/deep": "agent", "/etc/cc-ci-test-secrets": "root"}
    for folder, owner in folders.items():
        found = machine.succeed(f"stat -c '%a %U:%G' {folder}").strip()
        assert found == f"700 {owner}:{owner}", (folder, found)
    listed = json.loads(machine.succeed("secrets-placer status --json"))
    assert {secret["name"]: secret["state"] for secret in listed["secrets"]} == dict.fromkeys(PLACED, "placed"), listed

with subtest("what is as it should be is not written again"):
    before = inodes()
    machine.succeed(f"systemctl restart {SECRETS}")
    assert inodes() == before
    assert said_by_unit().count("3 secrets, 0 placed, 3 as they were") == 1

with subtest("after a reboot"):
    first = boot_id()
    machine.reboot()
    check_start()
    assert boot_id() != first
    assert "3 secrets, 0 placed, 3 as they were" in said_by_unit()

for cut in (1, 2):
    with subtest(f"after power cut {cut}, what had just been placed is there whole"):
        machine.succeed(f"rm {' '.join(path for path, _ in PLACED.values())}", f"systemctl restart {SECRETS}")
        last = boot_id()
        machine.crash()
        machine.start(allow_reboot=True)
        check_start()
        assert boot_id() != last
        assert "3 secrets, 0 placed, 3 as they were" in said_by_unit(), said_by_unit()

with subtest("a changed secret arrives, and whoever asked for it is told, once; loops run on"):
    units = ["cc-ci-test-restarted.service", "cc-ci-test-reloaded.service"]
    machine.succeed(f"systemctl start {' '.join(units)}")
    before = {name: (loop["pid"], loop["epoch"]) for name, loop in loops().items()}
    machine.succeed("cc-ci-test-sources new", f"systemctl restart {SECRETS}")
    check_files()
    new = sum_of(TESTENV)
    for unit in units:
        machine.wait_until_succeeds(f"grep -q {new} /run/{unit.removesuffix('.service')}", timeout=300)
        # What wrote that may still have to end.
        machine.wait_until_succeeds(f"[ $(systemctl show -P ActiveState {unit}) = active ]", timeout=300)
    machine.fail("systemctl is-active cc-ci-test-off.service")
    started = [at(unit, "StateChange") for unit in units]
    machine.succeed(f"systemctl restart {SECRETS}")
    assert [at(unit, "StateChange") for unit in units] == started, "told again of nothing"
    assert {name: (loop["pid"], loop["epoch"]) for name, loop in loops().items()} == before

with subtest("a loop's unit is none that a secret may restart"):
    loop_unit = 'try_restart = ["cc-ci-session@builder.service"]'
    machine.succeed(f"(cat /etc/cc-ci-orchestrator/secrets.toml; echo '{loop_unit}') >/run/loops.toml")
    assert machine.execute("secrets-placer check --static --manifest /run/loops.toml")[0] == 2

with subtest("a broken secret changes nothing, and is reported"):
    before = inodes(), sum_of(TESTENV)
    machine.succeed("cc-ci-test-sources break")
    machine.fail(f"systemctl restart {SECRETS}")
    machine.fail(f"systemctl is-active {SECRETS}")
    # While it tries again it has no result.
    machine.wait_until_succeeds(f"[ $(systemctl show --value -p Result {SECRETS}) = exit-code ]", timeout=120)
    told = "checking the secret `testenv` from `/run/secrets/testenv` as `dotenv`: as an env file it is wrong in line 1"
    assert told in said_by_unit(), said_by_unit()
    assert (inodes(), sum_of(TESTENV)) == before
    assert machine.execute("secrets-placer check")[0] == 1

with subtest("a loop that needs secrets is held until they are placed, and status says so; another is not"):
    other = loops()["orchestrator"]["pid"]
    machine.succeed("supervisor restart builder")
    machine.wait_until_succeeds("supervisor status | grep 'needs secrets'", timeout=120)
    held = loops()["builder"]
    assert held["pid"] is None and held["state"] == "held", held
    assert [hold["kind"] for hold in held["holds"]] == ["needs"], held
    assert SECRETS in machine.succeed("supervisor explain builder")
    assert loops()["orchestrator"]["pid"] == other
    # Mended: the unit tries again by itself, and the loop needs nobody.
    machine.succeed("cc-ci-test-sources new")
    wait_until_placed()
    wait_until_up("builder")
    new = sum_of(TESTENV)
    machine.wait_until_succeeds(f"grep -q {new} /srv/cc-ci/builder/found", timeout=120)
    check_files()

with subtest("a user's symlinks, hard links and renames in a race get nothing"):
    # What is root's, but for what is placed: names, owners, modes; and the contents in /etc.
    roots = "find /etc /root /usr/local -xdev -path /etc/cc-ci-test-race -prune -o -printf '%p %y %U %G %m %l\\n'"
    sums = "find /etc -xdev -path /etc/cc-ci-test-race -prune -o -type f -exec sha256sum {} +"
    # (Made by the race: what it aims at.)
    picture = f"({roots}; {sums}) | grep -v -e cc-ci-test-victim -e '^/etc [a-z]' | sort | sha256sum"
    before = machine.succeed(picture)
    victim = machine.succeed("printf 'root:x\\n' | sha256sum").split()[0]
    race = json.loads(machine.succeed("cc-ci-test-race 60", timeout=1800))
    machine.log(f"race: {race}")
    assert machine.succeed(picture) == before, "something of root's changed"
    assert sum_of("/etc/cc-ci-test-victim/shadow") == victim
    assert machine.succeed("stat -c '%a %U:%G' /etc/cc-ci-test-victim/shadow").strip() == "600 root:root"
    assert machine.succeed("ls -A /etc/cc-ci-test-victim").split() == ["shadow"]
    # They really raced, and met each other.
    assert sum(race["turns"].values()) >= 2000 and min(race["turns"].values()) >= 100, race
    codes = {int(code): count for code, count in race["codes"].items()}
    assert set(codes) <= {0, 1} and codes.get(1, 0) > 0 and sum(codes.values()) >= 10, race
    assert race["scans"] > 0 and race["shown"] == [], race
    assert race["last"] == 0, machine.succeed("tail /run/cc-ci-test-race/said")
    # Nothing in the user's folder is anybody else's, and nobody else's secret is anywhere the user can read.
    stray = machine.succeed("find /home/agent -xdev ! -user agent -ls")
    assert stray == "", stray
    as_agent = "setpriv --reuid=agent --regid=agent --clear-groups --"
    everywhere = "grep -rlsE --devices=skip '(roots|others) [0-9a-f]{32}' /home /srv /tmp /var /etc /run /root"
    found = machine.execute(f"{as_agent} {everywhere}")[1]
    assert found == "", found
    # The twin: it is to be found by who may read it.
    found = machine.execute(everywhere)[1]
    assert "/etc/cc-ci-test-race/roots" in found, found
    check_files()

with subtest("the values are in no journal, argument, environment, state or log"):
    # By a file of patterns: what looks for them must not show them.
    for value in machine.succeed(f"wc -l <{VALUES}").split():
        assert int(value) >= 12, value
    machine.succeed(f"! grep -qvE '.{{16}}' {VALUES}")
    # To its end, and whatever else fails in the pipe: else something that is found could look like nothing.
    look = f"grep -aFf {VALUES}"
    machine.fail(f"journalctl --no-pager -o export | {look} -c")
    machine.fail(f"(cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ || true) | {look} -c")
    state = "/var/lib/cc-ci-secrets /srv/cc-ci /{var/lib,run,etc}/cc-ci-orchestrator"
    machine.fail(f"grep -rsqaFf {VALUES} --devices=skip {state}")
    machine.fail(f"secrets-placer status --json | {look} -c")
    # The twins: each way of looking finds what is there. (It is nobody's secret by then.)
    machine.succeed("cc-ci-test-sources new")
    machine.succeed(f"tail -n 3 {VALUES} | head -n 1 | systemd-cat")
    machine.wait_until_succeeds(f"journalctl --no-pager -o export | {look} -c", timeout=60)
    machine.succeed(f"grep -rsqaFf {VALUES} --devices=skip /run/secrets")
    marked = f"MARK=$(tail -n 3 {VALUES} | head -n 1) sleep 1000 >&2 &"
    machine.succeed(f"{marked} until cat /proc/$!/environ | {look} -c; do sleep 0.1; done; kill $!", timeout=300)
