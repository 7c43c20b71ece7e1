# Where the processes of agents are: in the cgroup of their loop's unit, whatever they do to leave it; so they end with
# it.


def unit(name):
    return f"/system.slice/system-cc\\x2dci\\x2dsession.slice/cc-ci-session@{name}.service"


def pids(command):
    return sorted(int(pid) for pid in machine.execute(command)[1].split())


def members(group):
    """The processes in a cgroup and below it."""
    return pids(f"find '/sys/fs/cgroup{group}' -name cgroup.procs -exec cat {{}} +")


def group_of(*processes):
    """The one cgroup of these processes."""
    told = machine.succeed("cat " + " ".join(f"/proc/{pid}/cgroup" for pid in processes))
    (group,) = {line.removeprefix("0::") for line in told.splitlines()}
    return group


def sleeping(seconds):
    """The command that finds sleeps of that long; whole command lines, since its own has the words too."""
    return f"pgrep -fx '([^ ]*/)?sleep {seconds}'"


def scatter(name, seconds):
    """Has an agent start four sleeps that leave it, without its session or even its environment; their pids."""
    machine.succeed(f"supervisor nudge {name} 'scatter {seconds}'")
    machine.wait_until_succeeds(f"test $({sleeping(seconds)} | wc -l) = 4", timeout=120)
    return pids(sleeping(seconds))


def check_places(all_loops):
    """Each agent and all that it started are in UNIT/agent, its server in UNIT/tmux, and nothing is elsewhere."""
    in_units = set()
    for name, loop in all_loops.items():
        assert loop["pid"] in members(f"{unit(name)}/agent"), loop
        assert loop["server_pid"] in members(f"{unit(name)}/tmux"), loop
        in_units.update(members(unit(name)))
    marked = pids("grep -lsz '^CC_CI_LOOP=' /proc/[0-9]*/environ | cut -d/ -f3")
    assert marked and set(marked) <= in_units, (marked, in_units)


def scopes():
    return machine.succeed("find /sys/fs/cgroup -name 'tmux-spawn-*.scope'").split()


machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
before = wait_until_all_up()

with subtest("every agent is in its unit's cgroup, with all that it starts"):
    check_places(before)
    assert group_of(*scatter("builder", 47110)) == f"{unit('builder')}/agent"
    check_places(before)

with subtest("what left an agent ends with a stop, and nobody else does"):
    machine.succeed("supervisor stop builder")
    machine.wait_until_fails(sleeping(47110), timeout=120)
    # The session waits, without an agent.
    assert before["builder"]["server_pid"] in members(f"{unit('builder')}/tmux")
    assert members(f"{unit('builder')}/agent") == []
    check_same(before, loops(), but=["builder"])
    assert {"adversary", "orchestrator"} - set(taken_for_hung()), "no loop could be compared"

with subtest("and with a stop of the unit, when no supervisor is there to see to it"):
    scatter("adversary", 47111)
    machine.succeed(f"systemctl stop {SUPERVISOR}", "systemctl stop cc-ci-session@adversary.service", timeout=300)
    machine.fail(sleeping(47111))
    assert members(unit("adversary")) == []
    machine.succeed(f"systemctl start cc-ci-session@adversary.service {SUPERVISOR}", timeout=300)
    machine.succeed("supervisor start builder")
    wait_until_all_up()

machine.succeed("loginctl enable-linger agent")
bus = f"/run/user/{machine.succeed('id -u agent').strip()}"
# Who first asks the bus has it started, and waits for that: not the tmux below.
machine.wait_until_succeeds(
    f"setpriv --reuid=agent --regid=agent --init-groups env XDG_RUNTIME_DIR={bus} systemctl --user start dbus.service",
    timeout=300,
)

with subtest("a user bus in reach would take a pane away from its unit"):
    # The hazard is real here: a tmux server as ours, but for the environment.
    machine.succeed(
        "printf 'set -s exit-empty off\\nnew-session -d sleep 47112\\n' >/tmp/twin.conf",
        'systemd-run --quiet --unit twin --uid agent -E PATH="$PATH" --property Delegate=yes '
        "--property DelegateSubgroup=tmux "
        f"--setenv XDG_RUNTIME_DIR={bus} --setenv DBUS_SESSION_BUS_ADDRESS=unix:path={bus}/bus "
        '"$(command -v tmux)" -D -S /tmp/twin.sock -f /tmp/twin.conf',
    )
    # A server in the foreground does nothing before its first client comes.
    machine.wait_until_succeeds("tmux -S /tmp/twin.sock list-sessions 2>&1", timeout=300)
    machine.wait_until_succeeds(f"grep tmux-spawn /proc/$({sleeping(47112)})/cgroup", timeout=300)
    machine.succeed("systemctl stop twin")
    machine.wait_until_succeeds("test -z \"$(find /sys/fs/cgroup -name 'tmux-spawn-*.scope')\"", timeout=120)

with subtest("it takes none of ours"):
    machine.succeed("systemctl restart cc-ci-session@builder.service", timeout=300)
    machine.succeed("supervisor restart adversary")
    wait_for_epoch("builder", 3)
    check_places(wait_for_epoch("adversary", 3))
    assert scopes() == []

with subtest("not even when the unit says where the bus is"):
    machine.succeed(
        "mkdir -p /run/systemd/system/cc-ci-session@builder.service.d",
        "printf '[Service]\\nUnsetEnvironment=\\nEnvironment=XDG_RUNTIME_DIR=%s DBUS_SESSION_BUS_ADDRESS=%s\\n' "
        f"{bus} unix:path={bus}/bus >/run/systemd/system/cc-ci-session@builder.service.d/bus.conf",
        "systemctl daemon-reload",
    )
    machine.succeed("systemctl restart cc-ci-session@builder.service", timeout=300)
    check_places(wait_for_epoch("builder", 4))
    assert group_of(*scatter("builder", 47113)) == f"{unit('builder')}/agent"
    assert scopes() == []
