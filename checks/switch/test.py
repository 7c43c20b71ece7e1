# An upgrade: new unit files, a new supervisor and a changed definition of one loop are installed while agents run, and
# somebody looks at one of them.

LOOPS = ["adversary", "builder", "orchestrator"]


def main_pid():
    return int(machine.get_unit_property(SUPERVISOR, "MainPID"))


def program(pid):
    """The file that a process runs, by device and inode: a path may by now be another file's."""
    return machine.succeed(f"stat -Lc %d:%i /proc/{pid}/exe")


def screen():
    return machine.succeed("tmux -L operator capture-pane -p -t attached")


def type_and_read(text):
    """Types into the terminal of who is attached, and waits for the agent's answer on the same screen."""
    machine.succeed(f"tmux -L operator send-keys -t attached -l {text}", "tmux -L operator send-keys -t attached Enter")
    machine.wait_until_succeeds(f"tmux -L operator capture-pane -p -t attached | grep -x 'told: {text}'", timeout=120)


def attach():
    """Attaches to the builder in a terminal of root's own tmux."""
    machine.succeed("tmux -L operator -f /dev/null new-session -d -s attached supervisor attach builder")
    machine.wait_until_succeeds("tmux -L operator capture-pane -p -t attached | grep 'agent of builder'", timeout=120)


machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
before = wait_until_all_up()
assert sorted(before) == LOOPS, before
old_pid, old_program = main_pid(), program(main_pid())

with subtest("somebody is attached"):
    attach()
    type_and_read("before")

with subtest("a new version is installed, and the supervisor is it"):
    machine.succeed("cc-ci-test-switch", timeout=600)
    machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
    assert main_pid() != old_pid
    assert program(main_pid()) != old_program
    # The new unit files are what systemd goes by.
    machine.succeed(f"tr '\\0' '\\n' </proc/{main_pid()}/environ | grep -x CC_CI_TEST_GENERATION=2")
    for unit in [SUPERVISOR] + [f"cc-ci-session@{name}.service" for name in LOOPS]:
        assert machine.get_unit_property(unit, "NeedDaemonReload") == "no", unit
        assert "CC_CI_TEST_GENERATION=2" in machine.get_unit_property(unit, "Environment"), unit

with subtest("agents and tmux servers are the same processes, of the old version"):
    after = wait_until_all_up()
    check_same(before, after)
    for name in sorted(set(LOOPS) - set(taken_for_hung())):
        assert after[name]["restarts"] == 0, after[name]
        unit = f"cc-ci-session@{name}.service"
        assert int(machine.get_unit_property(unit, "MainPID")) == before[name]["server_pid"]
        assert machine.get_unit_property(unit, "NRestarts") == "0"
        kinds = machine.succeed(f"supervisor history {name} --json | jq -r .decision").split()
        assert kinds[-1] == "adopt", kinds

with subtest("who was attached still is, and others can"):
    type_and_read("after")
    machine.succeed("tmux -L operator send-keys -t attached C-]")
    machine.wait_until_fails("tmux -L operator has-session -t attached 2>&1", timeout=120)
    attach()
    type_and_read("again")
    machine.succeed("tmux -L operator kill-server")
    check_same(before, loops())

with subtest("status says which loop runs an older definition"):
    assert {name: loop["older_definition"] for name, loop in after.items()} == {
        "adversary": False,
        "builder": True,
        "orchestrator": False,
    }
    told = machine.succeed("supervisor status")
    lines = [line.split()[0] for line in told.splitlines() if "older definition" in line]
    assert lines == ["builder"], told
    command = machine.succeed(f"tr '\\0' ' ' </proc/{after['builder']['pid']}/cmdline")
    assert "the-new-definition" not in command, command

with subtest("a restart takes the new one, in the same tmux server"):
    machine.succeed("supervisor restart builder")
    last = wait_for_epoch("builder", before["builder"]["epoch"] + 1)
    command = machine.succeed(f"tr '\\0' ' ' </proc/{last['builder']['pid']}/cmdline")
    assert "the-new-definition" in command, command
    assert not last["builder"]["older_definition"], last
    if "builder" not in taken_for_hung():
        assert last["builder"]["server_pid"] == before["builder"]["server_pid"], last
    check_same(before, last, but=["builder"])

assert {"adversary", "orchestrator"} - set(taken_for_hung()), "no loop could be compared"
