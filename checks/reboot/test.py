# Three loops at the second of three phases; the machine reboots; all of it is back by itself.

LOOPS = ["adversary", "builder", "orchestrator"]


machine.start(allow_reboot=True)

with subtest("the loops come up with the machine"):
    machine.wait_for_unit("cc-ci-orchestrator.service", timeout=300)
    before = wait_until_all_up()
    assert sorted(before) == LOOPS, before
    assert status()["phase"]["index"] == 0

with subtest("the second of three plans is reached"):
    machine.succeed("supervisor phase advance")
    assert status()["phase"]["index"] == 1
    assert machine.succeed("cat /srv/cc-ci/.cc-ci-logs/.phase-idx") == "1\n"

with subtest("after a reboot everything is back by itself"):
    first_boot = boot_id()
    machine.reboot()
    machine.wait_for_unit("cc-ci-orchestrator.service", timeout=300)
    after = wait_until_all_up()
    assert boot_id() != first_boot
    assert sorted(after) == LOOPS, after

with subtest("at the same phase, with the same plan"):
    phase = status()["phase"]
    assert (phase["index"], phase["total"], phase["complete"]) == (1, 3, False), phase
    assert phase["plan"] == "/srv/cc-ci/plans/plan-2.md", phase
    for name in ("builder", "adversary"):
        command = machine.succeed(f"tr '\\0' ' ' </proc/{after[name]['pid']}/cmdline")
        assert "plan-2" in command, command

with subtest("each loop has one agent, a new one, in its own session"):
    for name in LOOPS:
        assert after[name]["epoch"] == before[name]["epoch"] + 1, (before[name], after[name])
        unit = f"cc-ci-session@{name}.service"
        assert machine.succeed(f"cat /proc/{after[name]['pid']}/cgroup").strip().endswith(f"/{unit}/agent")
        assert int(machine.get_unit_property(unit, "MainPID")) == after[name]["server_pid"]
    agents = machine.succeed("pgrep -u agent -fc '^/bin/sh .*cc-ci-test-agent'")
    assert agents.strip() == "3", agents

with subtest("the reboot counts as nobody's crash"):
    for name in LOOPS:
        loop = after[name]
        assert (loop["restarts"], loop["holds"], loop["last_death"]) == (0, [], None), loop
        kinds = machine.succeed(f"supervisor history {name} --json | jq -r .decision").split()
        assert "reboot" in kinds and not {"restart", "backoff", "crash-loop"} & set(kinds), kinds

with subtest("how long it took is told"):
    ticks = int(machine.succeed("getconf CLK_TCK"))
    # When a process started, in ticks since the kernel did: the 20th field after its name.
    starts = [
        int(machine.succeed(f"sed 's/.*) //' /proc/{loop['pid']}/stat").split()[19]) / ticks for loop in after.values()
    ]
    machine.log(f"from the kernel's start to all agents running: {max(starts):.1f} s")
