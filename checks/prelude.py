# What the scripts ask of the loops of `machine`. Both drivers put it before each test.py.
import json

SUPERVISOR = "cc-ci-orchestrator.service"


def boot_id():
    return machine.succeed("cat /proc/sys/kernel/random/boot_id").strip()


def status():
    return json.loads(machine.succeed("supervisor status --json"))


def loops():
    """What the status says of each loop, by name."""
    return {loop["name"]: loop for loop in status()["loops"]}


def wait_until_all_up():
    """Waits until every one of three loops has an agent and nothing is said against it; the loops."""
    up = '.loops[] | select(.state == "up" and .pid != null and .holds == []) | "/proc/\\(.pid)/cmdline"'
    # `up` is before the process is in its cgroup and has become the agent's program.
    agents = f"grep -lasz cc-ci-test- /dev/null $(supervisor status --json | jq -r '{up}')"
    machine.wait_until_succeeds(f"test $({agents} | wc -l) = 3", timeout=600)
    return loops()


def wait_for_epoch(name, epoch):
    """Waits until that start of a loop's agent, or a later one, is up; all loops."""
    it_is = f'.loops[] | select(.name == "{name}") | .state == "up" and .pid != null and .epoch >= {epoch}'
    machine.wait_until_succeeds(f"supervisor status --json | jq -e '{it_is}'", timeout=300)
    return wait_until_all_up()


def taken_for_hung():
    """The loops whose tmux server the supervisor took for hung, one as often as it did. On a computer that does much
    else it may take a slow one for that, and then the loop has another, and another agent."""
    killed = 'select(.decision == "session-host-hung") | .loop'
    return machine.succeed(f"supervisor history --json | jq -r '{killed}'").split()


def check_same(before, after, but=()):
    """Agents, their starts and their tmux servers are what they were."""
    for name in sorted(set(before) - set(but) - set(taken_for_hung())):
        for key in ("pid", "epoch", "server_pid"):
            assert before[name][key] == after[name][key], (name, key, before[name], after[name])
