# What an operator stopped or froze stays so over a reboot, until it is started or thawed. A tmux server and the
# supervisor are killed ten times each, and are both back each time.

LOOPS = ["adversary", "builder", "orchestrator"]
SESSION = "cc-ci-session@builder.service"
# Of the sessions. The backslashes are for a shell.
SLICE = "/sys/fs/cgroup/system.slice/system-cc\\\\x2dci\\\\x2dsession.slice"
# Quicker than five in ten seconds, at which systemd gives a unit up unless it is told not to.
QUICK = 6
AWAITED = 4
# What is decided of an agent whose death counts.
CRASHES = {"restart", "backoff", "hold"}


def wait_until(condition):
    """Waits until jq says so of the status; the loops."""
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{condition}'", timeout=600)
    return loops()


def wait_until_up(*names):
    """Waits until these loops have an agent, one each, and the rest have none; the loops."""
    up = '[.loops[] | select(.state == "up" and .pid != null) | .name] | sort == ' + json.dumps(sorted(names))
    now = wait_until(up)
    count_agents(len(names))
    return now


def count_agents(count):
    """There are that many processes of agents, and a tmux server for each loop."""
    for what, right in (("cc-ci-test-agent", count), ("tmux -D", len(LOOPS))):
        # `up` is before the process has become the agent's program.
        machine.wait_until_succeeds(f"[ $(pgrep -u agent -fc '{what}') -ge {right} ]", timeout=600)
        # Exit code 1 of pgrep is none.
        found = machine.succeed(f"pgrep -u agent -fc '{what}' || true").strip()
        assert int(found) == right, f"{found} processes of `{what}` and not {right}"


def kinds(loop):
    """What an operator holds it for. Its session may be coming as well."""
    return sorted({hold["kind"] for hold in loop["holds"]} & {"drained", "frozen", "stopped"})


def decisions(name):
    """What was decided of the loop, again and again."""
    return machine.succeed(f"supervisor history {name} --json | jq -r .decision").split()


def main_pid(unit):
    return int(machine.get_unit_property(unit, "MainPID"))


def kill_quickly(unit, group):
    """Kills the unit's first process QUICK times, each as soon as there is a new one."""
    machine.succeed(
        f"""
        procs={group}/cgroup.procs last= kills=0
        while [ $kills -lt {QUICK} ]; do
            pid=
            read -r pid 2>/dev/null <$procs || true
            if [ -n "$pid" ] && [ "$pid" != "$last" ] && kill -KILL $pid; then
                last=$pid kills=$((kills + 1))
            else
                sleep 0.02
            fi
        done
        """,
        timeout=600,
    )
    machine.wait_until_succeeds(f"systemctl is-active {unit}", timeout=600)


def kill_and_wait(unit):
    """Kills the unit's main process once, and waits until there is another."""
    old = main_pid(unit)
    machine.succeed(f"kill -KILL {old}")
    machine.wait_until_succeeds(
        f"systemctl is-active {unit} && [ $(systemctl show -P MainPID {unit}) != {old} ]", timeout=600
    )
    assert main_pid(unit) not in (0, old)


def wait_for_session():
    """Waits until the builder has an agent in the tmux server that its unit has now."""
    server = main_pid(SESSION)
    wait_until(f'[.loops[] | select(.server_pid == {server} and .state == "up" and .pid != null)] | length == 1')


def same_agents(before, after, *names):
    """These loops' agents and tmux servers are the processes that they were, and none was started since."""
    global compared
    now = taken_for_hung()
    for name in names:
        if now.count(name) > hung.count(name):
            machine.log(f"{name} is not compared: its tmux server was slow, and taken for hung")
            continue
        compared += 1
        for key in ("pid", "server_pid", "epoch", "restarts"):
            assert before[name][key] == after[name][key], (name, key, before[name], after[name])


def one_more_agent(before, after, at_most=1):
    """The loop got a new agent after its session died, and no crash was counted."""
    name = after["name"]
    more = after["epoch"] - before["epoch"]
    most = at_most + taken_for_hung().count(name) - hung.count(name)
    assert 1 <= more <= most, f"{more} agents of {name} were started, not 1 to {most}"
    assert after["restarts"] == before["restarts"], (before, after)


compared = 0
hung = []
machine.start(allow_reboot=True)
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=600)
first = wait_until_up(*LOOPS)

with subtest("a stop ends the loop's agent, a freeze stops the others in place"):
    machine.succeed("supervisor stop builder")
    now = wait_until_up("adversary", "orchestrator")
    assert (now["builder"]["state"], kinds(now["builder"])) == ("held", ["stopped"]), now["builder"]
    same_agents(first, now, "adversary", "orchestrator")
    machine.succeed("supervisor freeze")
    now = wait_until(".frozen != null")
    for name in ("adversary", "orchestrator"):
        events = f"{SLICE}/cc-ci-session@{name}.service/agent/cgroup.events"
        machine.wait_until_succeeds(f"grep -x 'frozen 1' {events}", timeout=300)
        assert now[name]["pid"] == first[name]["pid"]

with subtest("after a reboot both still hold: no agent runs"):
    boot = boot_id()
    machine.reboot()
    machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=600)
    assert boot_id() != boot
    assert status()["frozen"] is not None
    now = wait_until_up()
    assert kinds(now["builder"]) == ["frozen", "stopped"], now["builder"]
    for name in ("adversary", "orchestrator"):
        assert kinds(now[name]) == ["frozen"], now[name]
    for name in LOOPS:
        assert now[name]["epoch"] == first[name]["epoch"], (first[name], now[name])

with subtest("a thaw starts what was frozen, and not what was stopped"):
    machine.succeed("supervisor thaw")
    now = wait_until_up("adversary", "orchestrator")
    assert status()["frozen"] is None
    assert kinds(now["builder"]) == ["stopped"], now["builder"]

with subtest("a start starts what was stopped"):
    machine.succeed("supervisor start builder")
    now = wait_until_up(*LOOPS)
    for name in LOOPS:
        loop = now[name]
        one_more_agent(first[name], loop)
        assert (loop["restarts"], loop["holds"]) == (0, []), loop
        assert not CRASHES & set(decisions(name)), decisions(name)

with subtest("systemd never gives a unit up"):
    for unit in (SUPERVISOR, SESSION):
        assert machine.get_unit_property(unit, "StartLimitIntervalUSec") == "0"

with subtest("a supervisor that is killed again and again is back, and the agents do not notice"):
    before, hung = now, taken_for_hung()
    kill_quickly(SUPERVISOR, f"/sys/fs/cgroup/system.slice/{SUPERVISOR}")
    now = wait_until_up(*LOOPS)
    same_agents(before, now, *LOOPS)

with subtest("a tmux server that is killed again and again is back, with one agent, and the other loops do not notice"):
    before, hung = now, taken_for_hung()
    kill_quickly(SESSION, f"{SLICE}/{SESSION}/tmux")
    wait_for_session()
    now = wait_until_up(*LOOPS)
    same_agents(before, now, "adversary", "orchestrator")
    assert now["builder"]["server_pid"] != before["builder"]["server_pid"]
    one_more_agent(before["builder"], now["builder"], at_most=QUICK)

for round in range(1, AWAITED + 1):
    with subtest(f"each is back when it is killed at work ({round} of {AWAITED})"):
        # systemd waits longer each time, up to 30 s.
        machine.succeed(f"systemctl reset-failed {SUPERVISOR} {SESSION}")
        before, hung = now, taken_for_hung()
        kill_and_wait(SUPERVISOR)
        now = wait_until_up(*LOOPS)
        same_agents(before, now, *LOOPS)
        before, hung = now, taken_for_hung()
        kill_and_wait(SESSION)
        wait_for_session()
        now = wait_until_up(*LOOPS)
        same_agents(before, now, "adversary", "orchestrator")
        one_more_agent(before["builder"], now["builder"])

with subtest("an agent that a restart of its session ends before the tmux server has not crashed"):
    machine.succeed(f"systemctl reset-failed {SESSION}")
    before, hung = now, taken_for_hung()
    # Most stops end the tmux server first; this one gives the supervisor two seconds to take the death for a crash.
    agent = before["builder"]["pid"]
    machine.succeed(
        f"mkdir -p /run/systemd/system/{SESSION}.d",
        f"printf '[Service]\\nExecStop=/bin/sh -c \"kill {agent}; sleep 2\"\\n' >/run/systemd/system/{SESSION}.d/stop.conf",
        "systemctl daemon-reload",
        f"systemctl restart {SESSION}",
        f"rm /run/systemd/system/{SESSION}.d/stop.conf",
        "systemctl daemon-reload",
    )
    wait_for_session()
    now = wait_until_up(*LOOPS)
    same_agents(before, now, "adversary", "orchestrator")
    one_more_agent(before["builder"], now["builder"])

with subtest("nothing of it counts as a crash"):
    assert compared > 0, "no loop could be compared"
    for name in LOOPS:
        assert not CRASHES & set(decisions(name)), decisions(name)
    assert machine.succeed("find /var/lib/cc-ci-orchestrator -name '*.foreign-*'") == ""
