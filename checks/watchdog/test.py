# A supervisor that hangs is found out and replaced by systemd, and one that works is left alone.

LOOPS = ["adversary", "builder", "orchestrator"]
# As the unit has it.
SECONDS = 30


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
    for name in sorted(set(LOOPS) - set(taken_for_hung())):
        assert after[name]["restarts"] == 0, after[name]
        assert machine.get_unit_property(f"cc-ci-session@{name}.service", "NRestarts") == "0"

with subtest("the new one does its work"):
    machine.succeed(f"kill -KILL {after['builder']['pid']}")
    last = wait_for_epoch("builder", after["builder"]["epoch"] + 1)
    check_same(before, last, but=["builder"])

assert set(LOOPS) - set(taken_for_hung()), "no loop could be compared"
