# One agent needs more memory than its unit may have: what happens when it is the agent itself that goes, and when it
# is a child of it.


def history(name, decision):
    """The journal's entries of a decision about a loop, the oldest first."""
    lines = machine.succeed(f"supervisor history {name} --json").splitlines()
    return [entry for entry in map(json.loads, lines) if entry["decision"] == decision]


def deaths():
    """What the builder's agents died of, as journalled, the oldest first."""
    lines = machine.succeed("supervisor history builder --json").splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry["evidence"]["cause"] for entry in entries if entry["decision"] in ("restart", "backoff", "hold")]


def notified(kind, about):
    """Waits for a notification of that kind with that in its summary."""
    has = f'[.[] | select(.kind == "{kind}" and (.summary | test("{about}")))] | length > 0'
    machine.wait_until_succeeds(f"jq -es '{has}' /srv/cc-ci/notified", timeout=120)


LIMIT = (96 << 20) - (32 << 20)

machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
first = wait_until_all_up()

with subtest("one loop has a memory limit, by a drop-in of its unit"):
    machine.succeed(
        "mkdir -p /run/systemd/system/cc-ci-session@builder.service.d",
        "printf '[Service]\\nMemoryMax=96M\\nMemorySwapMax=0\\n' "
        ">/run/systemd/system/cc-ci-session@builder.service.d/limit.conf",
        "systemctl daemon-reload",
        "systemctl restart cc-ci-session@builder.service",
    )
    before = wait_for_epoch("builder", first["builder"]["epoch"] + 1)
    agent = f"/proc/{before['builder']['pid']}"
    limit = machine.succeed(f'cat "/sys/fs/cgroup$(cut -d: -f3 {agent}/cgroup)/memory.max"')
    assert limit.strip() == str(LIMIT), limit
    assert machine.succeed(f"cat {agent}/oom_score_adj").strip() == "500"
    # A session that is restarted is not its agent's fault.
    assert before["builder"]["restarts"] == 0 and deaths() == [], deaths()

with subtest("an agent that eats beyond it is killed, alone, and started again"):
    machine.succeed("supervisor nudge builder eat")
    after = wait_for_epoch("builder", before["builder"]["epoch"] + 1)
    check_same(before, after, but=["builder"])
    if "builder" not in taken_for_hung():
        assert after["builder"]["server_pid"] == before["builder"]["server_pid"], after
        assert machine.get_unit_property("cc-ci-session@builder.service", "NRestarts") == "0"
    assert machine.get_unit_property("cc-ci-session@builder.service", "ActiveState") == "active"

with subtest("it is said to be for memory, with the limit and the peak"):
    assert after["builder"]["restarts"] == 1, after
    (cause,) = deaths()
    assert (cause["cause"], cause["limit"]) == ("oom", LIMIT), cause
    assert LIMIT - (4 << 20) <= cause["peak"] <= LIMIT, cause
    assert "for its memory, limit 64 MiB" in after["builder"]["last_death"], after
    notified("oom", "killed by the kernel for its memory, limit 64 MiB, peak")

with subtest("when only a child is killed, the agent is left alone, and the operator is told"):
    machine.succeed("supervisor nudge builder feed-child")
    machine.wait_until_succeeds("supervisor history builder --json | grep child-oom", timeout=300)
    (child,) = history("builder", "child-oom")
    assert child["evidence"]["children"] == 1, child
    notified("oom", "the kernel killed 1 of its children for memory")
    check_same(after, loops())
    machine.wait_until_succeeds("supervisor logs builder | grep 'told: feed-child'", timeout=120)

with subtest("a later SIGKILL is not taken for that"):
    machine.succeed(f"kill -KILL {after['builder']['pid']}")
    again = wait_for_epoch("builder", after["builder"]["epoch"] + 1)
    assert deaths()[1:] == [{"cause": "killed", "signal": 9}], deaths()
    check_same(before, again, but=["builder"])

with subtest("nor by the next supervisor"):
    machine.succeed("supervisor nudge builder feed-child")
    machine.wait_until_succeeds("test $(supervisor history builder --json | grep -c child-oom) = 2", timeout=300)
    machine.succeed(f"systemctl restart {SUPERVISOR}")
    check_same(again, wait_until_all_up())
    machine.succeed(f"kill -KILL {again['builder']['pid']}")
    wait_for_epoch("builder", again["builder"]["epoch"] + 1)
    assert deaths()[2:] == [{"cause": "killed", "signal": 9}], deaths()
    assert len(history("builder", "child-oom")) == 2

assert {"adversary", "orchestrator"} - set(taken_for_hung()), "no loop could be compared"
