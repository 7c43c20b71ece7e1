# A supervisor that hangs is found out and replaced by systemd, and one that works is left alone.
import json

LOOPS = ["adversary", "builder", "orchestrator"]
SUPERVISOR = "cc-ci-orchestrator.service"
# As the unit has it.
SECONDS = 30


def loops():
    found = json.loads(machine.succeed("supervisor status --json"))["loops"]
    return {loop["name"]: loop for loop in found}


def wait_until_all_up():
    """Waits until every loop has an agent and nothing is said against it; the loops."""
    up = '.loops[] | select(.state == "up" and .pid != null and .holds == []) | "/proc/\\(.pid)/cmdline"'
    # `up` is before the process is in its cgroup and has become the agent's program.
    agents = f"grep -lasz cc-ci-test- /dev/null $(supervisor status --json | jq -r '{up}')"
    machine.wait_until_succeeds(f"test $({agents} | wc -l) = 3", timeout=600)
    return loops()


def taken_for_hung():
    """The loops whose tmux server the supervisor took for hung. On a computer that does much else it may take a slow
    one for that, and then the loop has another, and another agent."""
    killed = 'select(.decision == "session-host-hung") | .loop'
    return set(machine.succeed(f"supervisor history --json | jq -r '{killed}'").split())


def check_same(before, after, but=()):
    """Agents, their starts and their tmux servers are what they were."""
    for name in sorted(set(before) - set(but) - taken_for_hung()):
        for key in ("pid", "epoch", "server_pid"):
            assert before[name][key] == after[name][key], (name, key, before[name], after[name])


def wait_for_epoch(name, epoch):
    """Waits until that start of a loop's agent, or a later one, is up; all loops."""
    it_is = f'.loops[] | select(.name == "{name}") | .state == "up" and .pid != null and .epoch >= {epoch}'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{it_is}'", timeout=300)
    return wait_until_all_up()


def supervisor():
    """Its process, and how often systemd has restarted it."""
    shown = machine.get_unit_info(SUPERVISOR)
    return int(shown["MainPID"]), int(shown["NRestarts"])


machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
before = wait_until_all_up()
pid, restarts = supervisor()
assert machine.get_unit_property(SUPERVISOR, "WatchdogUSec") == f"{SECONDS}s"

with subtest("one that works runs on, for three times as long as one that hangs may"):
    machine.sleep(3 * SECONDS)
    assert supervisor() == (pid, restarts), (pid, restarts, supervisor())
    check_same(before, loops())

with subtest("one that hangs is killed by systemd, and there is another"):
    hung = float(machine.succeed("date +%s.%N"))
    machine.succeed(f"kill -STOP {pid}")
    machine.wait_until_succeeds(f"test $(systemctl show {SUPERVISOR} -P NRestarts) -gt {restarts}", timeout=300)
    machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
    assert supervisor()[0] != pid
    machine.fail(f"test -e /proc/{pid}")
    fields = "[.__REALTIME_TIMESTAMP, .MESSAGE] | @tsv"
    machine.succeed("journalctl --sync", timeout=300)
    said = machine.succeed(f"journalctl -u {SUPERVISOR} -o json --no-pager | jq -r '{fields}'")
    # Two, if the next one was too slow as well.
    found = [line for line in said.splitlines() if f"Watchdog timeout (limit {SECONDS}s)" in line]
    machine.log(f"from SIGSTOP to the watchdog: {float(found[0].split()[0]) / 1e6 - hung:.1f} s")

with subtest("no agent and no tmux server noticed"):
    after = wait_until_all_up()
    check_same(before, after)
    for name in sorted(set(LOOPS) - taken_for_hung()):
        assert after[name]["restarts"] == 0, after[name]
        assert machine.get_unit_property(f"cc-ci-session@{name}.service", "NRestarts") == "0"

with subtest("the new one does its work"):
    machine.succeed(f"kill -KILL {after['builder']['pid']}")
    last = wait_for_epoch("builder", after["builder"]["epoch"] + 1)
    check_same(before, last, but=["builder"])

assert set(LOOPS) - taken_for_hung(), "no loop could be compared"
