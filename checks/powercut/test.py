# The phase is advanced all the time, and the machine is cut off at a random moment, CUTS times. What had returned is
# known from the console; what is found is read from the disk at the next boot, before the supervisor is started, by
# `cc-ci-test-disk workspace`, which the supervisor's unit needs. Settable in the environment: CUTS, SEED.
import os
import random
import re
import time

LOOPS = ["adversary", "builder", "orchestrator"]
PLANS = 400
INDEX = "/srv/cc-ci/.cc-ci-logs/.phase-idx"
CUTS = int(os.environ.get("CUTS", "10"))
SEED = int(os.environ.get("SEED", str(random.SystemRandom().randrange(10**6))))
# Enough for some advances, each of which takes a good part of a second.
LONGEST_WAIT = 8.0


def wait_for_one_agent_each():
    """Waits until every loop has an agent; their epochs by name. Nobody does anything twice."""
    epochs = {name: loop["epoch"] for name, loop in wait_until_all_up().items()}
    assert sorted(epochs) == LOOPS, epochs
    agents = machine.succeed("pgrep -u agent -fc cc-ci-test-agent")
    assert int(agents) == len(LOOPS), f"{agents.strip()} agents run"
    return epochs


def last_said(word):
    """The last phase that the console says was asked for, or had returned, in this boot."""
    said = re.findall(rf"cc-ci-test: phase (\d+) {word}\b", machine.get_console_log())
    return int(said[-1])


def wait_until_said(phase):
    """Waits until the console says that the advance to this phase has returned. (NixOS's own `wait_for_console_text` reads
    but one line a second when it has a time limit.)"""
    retry(lambda _last: f"cc-ci-test: phase {phase} returned" in machine.get_console_log(), 600)


def advance_and_cut(phase):
    """Cuts the machine off while the phase is advanced; the last one that had returned, the last one asked for."""
    machine.succeed('systemd-run --quiet --unit cc-ci-test-advance -E PATH="$PATH" cc-ci-test-advance')
    wait_until_said(phase + 1)
    time.sleep(chance.uniform(0, LONGEST_WAIT))
    machine.crash()
    return last_said("returned"), last_said("asked")


def found_on_disk():
    """What the phase index was at boot, before the supervisor could see it."""
    machine.wait_for_file("/run/cc-ci-test-found", timeout=600)
    text = machine.succeed("cat /run/cc-ci-test-found")
    assert re.fullmatch(r"[0-9]+\n", text), f"the phase index on the disk is torn: {text!r}"
    return int(text)


def check_state():
    """The state files were read as they are: none was set aside, refused or mended by another."""
    # A supervisor that refuses exits. (One that starts too slowly on a busy computer is killed.)
    machine.fail(f"journalctl -b -u {SUPERVISOR} | grep 'Main process exited, code=exited'")
    aside = machine.succeed("find /var/lib/cc-ci-orchestrator /srv/cc-ci -name '*.foreign-*'")
    assert aside == "", f"set aside: {aside}"
    decisions = machine.succeed("supervisor history --json | jq -r .decision").split()
    assert not {"phase-set-by-file", "recovered"} & set(decisions), decisions


chance = random.Random(SEED)
rows = []
machine.log(f"{CUTS} cuts, SEED={SEED}")
machine.start(allow_reboot=True)
machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=600)
machine.log(machine.succeed("supervisor --version"))
epochs = wait_for_one_agent_each()
phase = status()["phase"]["index"]

for cut in range(1, CUTS + 1):
    with subtest(f"power cut {cut} of {CUTS}"):
        if phase > PLANS - 100:
            machine.succeed("supervisor phase set 0")
            phase = 0
        returned, asked = advance_and_cut(phase)
        cause = getattr(machine, "last_crash", "quit")
        machine.start(allow_reboot=True)
        found = found_on_disk()
        rows.append(f"{cut:3} {cause:6} {returned:8} {asked:5} {found:5}")
        machine.log(rows[-1])
        assert found >= returned, f"{found} is older than the last phase whose advance had returned, {returned}"
        assert found <= asked, f"{found} was never reached: the last one asked for was {asked}"
        machine.wait_until_succeeds(f"systemctl is-active {SUPERVISOR}", timeout=600)
        before, epochs = epochs, wait_for_one_agent_each()
        again = [name for name in LOOPS if epochs[name] <= before[name]]
        assert not again, f"epochs that were used before: {before}, {epochs}"
        check_state()
        phase = status()["phase"]["index"]
        assert returned <= phase <= asked, (returned, phase, asked)
        assert machine.succeed(f"cat {INDEX}") == f"{phase}\n"

machine.log("cut cause  returned asked found")
for row in rows:
    machine.log(row)
