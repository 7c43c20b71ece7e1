# A supervisor that hangs is found out and replaced by systemd, and one that works is left alone.
import json

LOOPS = ["adversary", "builder", "orchestrator"]
SUPERVISOR = "cc-ci-orchestrator.service"


def loops():
    found = json.loads(machine.succeed("supervisor status --json"))["loops"]
    return {loop["name"]: loop for loop in found}


def wait_until_all_up():
    """Waits until every loop has an agent and nothing is said against it; the loops."""
    up = '[.loops[] | select(.state == "up" and .pid != null and .holds == [])] | length == 3'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{up}'", timeout=300)
    return loops()


def processes(all_loops, but=()):
    """What must not change: agents, their starts and their tmux servers."""
    return {
        name: (loop["pid"], loop["epoch"], loop["server_pid"]) for name, loop in all_loops.items() if name not in but
    }


def wait_for_epoch(name, epoch):
    """Waits until that start of a loop's agent, or a later one, is up; all loops."""
    it_is = f'.loops[] | select(.name == "{name}") | .state == "up" and .pid != null and .epoch >= {epoch}'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{it_is}'", timeout=300)
    return wait_until_all_up()
SECONDS = 10


def supervisor():
    """Its process, and how often systemd has restarted it."""
    shown = machine.get_unit_info(SUPERVISOR)
    return int(shown["MainPID"]), int(shown["NRestarts"])


machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
machine.succeed(
    f"mkdir -p /run/systemd/system/{SUPERVISOR}.d",
    f"printf '[Service]\\nWatchdogSec={SECONDS}s\\n' >/run/systemd/system/{SUPERVISOR}.d/watchdog.conf",
    "systemctl daemon-reload",
    f"systemctl restart {SUPERVISOR}",
)
before = wait_until_all_up()
pid, restarts = supervisor()
assert machine.get_unit_property(SUPERVISOR, "WatchdogUSec") == f"{SECONDS}s"

with subtest("one that works runs on, for three times as long as one that hangs may"):
    machine.sleep(3 * SECONDS)
    assert supervisor() == (pid, restarts), (pid, restarts, supervisor())
    assert processes(loops()) == processes(before)

with subtest("one that hangs is killed by systemd, and there is another"):
    hung = float(machine.succeed("date +%s.%N"))
    machine.succeed(f"kill -STOP {pid}")
    machine.wait_until_succeeds(f"test $(systemctl show {SUPERVISOR} -P NRestarts) -gt {restarts}", timeout=300)
    machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
    assert supervisor()[0] != pid
    machine.fail(f"test -e /proc/{pid}")
    fields = "[.__REALTIME_TIMESTAMP, .MESSAGE] | @tsv"
    said = machine.succeed(f"journalctl -u {SUPERVISOR} -o json --no-pager | jq -r '{fields}'")
    (found,) = [line for line in said.splitlines() if f"Watchdog timeout (limit {SECONDS}s)" in line]
    machine.log(f"from SIGSTOP to the watchdog: {float(found.split()[0]) / 1e6 - hung:.1f} s")

with subtest("no agent and no tmux server noticed"):
    after = wait_until_all_up()
    assert processes(after) == processes(before), (before, after)
    for name in LOOPS:
        assert after[name]["restarts"] == 0, after[name]
        assert machine.get_unit_property(f"cc-ci-session@{name}.service", "NRestarts") == "0"

with subtest("the new one does its work"):
    machine.succeed(f"kill -KILL {after['builder']['pid']}")
    last = wait_for_epoch("builder", after["builder"]["epoch"] + 1)
    assert processes(last, but=["builder"]) == processes(before, but=["builder"]), (before, last)
