# How far the units are locked down, and who may reach what they keep.

LOOPS = ["adversary", "builder", "orchestrator"]


# The most that `systemd-analyze security` may say, times ten; of units that are not installed nothing is known.
EXPOSURE = {SUPERVISOR: 30, "cc-ci-tailscaled.service": 25, "cc-ci-secrets.service": 30}


def kinds(paths):
    """What each path is, with its mode, owner and group."""
    told = machine.succeed(f"stat -c '%n	%F %a %U:%G' {' '.join(paths)}")
    return dict(line.split("\t") for line in told.splitlines())


machine.start()
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=300)
all_loops = wait_until_all_up()

with subtest("units are exposed no more than they must be"):
    checked = []
    for unit, most in EXPOSURE.items():
        if machine.execute(f"systemctl cat {unit} >/dev/null 2>&1")[0] == 0:
            machine.log(machine.succeed(f"systemd-analyze security --no-pager {unit} | tail -n 1").strip())
            machine.succeed(f"systemd-analyze security --no-pager --threshold={most} {unit}")
            checked.append(unit)
    assert SUPERVISOR in checked
    # The twin: a limit that it does not keep.
    machine.fail(f"systemd-analyze security --no-pager --threshold=1 {SUPERVISOR}")

with subtest("no process of them has a way to root"):
    main = int(machine.get_unit_property(SUPERVISOR, "MainPID"))
    pids = [main] + [loop[key] for loop in all_loops.values() for key in ("pid", "server_pid")]
    told = machine.succeed("grep -H '' " + " ".join(f"/proc/{pid}/status" for pid in pids))
    for pid in pids:
        lines = [line.split(":", 2)[1:] for line in told.splitlines() if line.startswith(f"/proc/{pid}/")]
        facts = {key: value.split() for key, value in lines}
        assert facts["NoNewPrivs"] == ["1"], (pid, facts)
        assert set(facts["Uid"]) != {"0"} and len(set(facts["Uid"])) == 1, (pid, facts)
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(facts[capabilities][0], 16) == 0, (pid, facts)

with subtest("files, sockets and folders belong to the user, and are closed to others"):
    expected = {
        "/run/cc-ci-orchestrator": "directory 750 agent:agent",
        "/run/cc-ci-orchestrator/control.sock": "socket 660 agent:agent",
        "/var/lib/cc-ci-orchestrator": "directory 750 agent:agent",
        "/srv/cc-ci/.cc-ci-logs/.phase-idx": "regular file 640 agent:agent",
    }
    for name in LOOPS:
        session = f"/run/cc-ci-orchestrator/session/{name}"
        expected[session] = "directory 750 agent:agent"
        expected[f"{session}/launch.json"] = "regular file 600 agent:agent"
    found = kinds(expected)
    assert found == expected, found
    # Closed to others; to its group or not is tmux's version's. It is marked as executable while somebody is attached.
    found = kinds(f"/run/cc-ci-orchestrator/session/{name}/tmux.sock" for name in LOOPS)
    assert set(found.values()) <= {f"socket {mode} agent:agent" for mode in (600, 700, 660, 770)}, found
    # Whatever else they made.
    stray = machine.succeed(
        # What is written has a temporary name for a moment.
        "find /run/cc-ci-orchestrator /var/lib/cc-ci-orchestrator -ignore_readdir_race "
        "! -type l '(' ! -user agent -o -perm /007 ')' -ls"
    )
    assert stray == "", stray

with subtest("another user reaches none of it"):
    as_nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --"
    machine.succeed(f"{as_nobody} true")
    machine.fail(
        f"{as_nobody} ls /run/cc-ci-orchestrator 2>&1",
        f"{as_nobody} ls /var/lib/cc-ci-orchestrator 2>&1",
        f"{as_nobody} tmux -S /run/cc-ci-orchestrator/session/builder/tmux.sock list-sessions 2>&1",
        f"{as_nobody} supervisor stop builder 2>&1",
    )
    check_same(all_loops, loops())
    assert set(LOOPS) - set(taken_for_hung()), "no loop could be compared"
