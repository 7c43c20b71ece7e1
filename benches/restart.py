#!/usr/bin/env python3
"""How long a killed agent is away, and how soon the first one runs.

usage: benches/restart.py [SUPERVISOR [ROUNDS]]      default: target/release/supervisor, 50

Starts a supervisor of its own in a temporary folder with three shell loops, kills the agent of one of them (SIGKILL)
ROUNDS times and takes the time until its tmux server has another child that runs `supervisor agent` or the agent itself,
as /proc tells, which asks nothing of the supervisor. The first death of a streak is meant: between two rounds the loop is
stopped and started, which clears the backoff. Ends everything it started.
"""
import json, os, pathlib, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

CONFIG = """workspace = "{0}"
state_dir = "{0}/state"
runtime_dir = "{0}/run"
start_stagger = "0s"
"""
LOOP = """
[loops.{0}]
agent = "command"
command = ["sleep", "3600"]
workdir = "."
"""
NAMES = ["builder", "adversary", "orchestrator"]


def ask(path, **request):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(json.dumps({"request": request}).encode() + b"\n")
        return json.loads(s.makefile().readline())


def pids(path):
    return {loop["name"]: loop["pid"] for loop in ask(path, do="status")["loops"] if loop["state"] == "up"}


def agents_below(server):
    """The children of a tmux server that have come to be the supervisor's or the agent's program."""
    with open(f"/proc/{server}/task/{server}/children") as children:
        return {int(child) for child in children.read().split() if comm(child) in ("supervisor", "sleep")}


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as name:
            return name.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = what()
        except (FileNotFoundError, ConnectionRefusedError):
            value = None
        if value:
            return value
        time.sleep(0.0005)
    sys.exit("restart.py: it did not come to pass within %d s" % seconds)


def main():
    binary = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/supervisor")
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cc-bench."))
    (folder / "supervisor.toml").write_text(CONFIG.format(folder) + "".join(LOOP.format(n) for n in NAMES))
    control = folder / "run/control.sock"
    begun = time.monotonic()
    with open(folder / "log", "w") as log:
        daemon = subprocess.Popen([binary, "run", "--config", str(folder / "supervisor.toml")], stderr=log)
    try:
        until(lambda: len(pids(control)) == len(NAMES))
        first = (time.monotonic() - begun) * 1000
        away = []
        for _ in range(rounds):
            loop = next(loop for loop in ask(control, do="status")["loops"] if loop["name"] == "builder")
            pid, server = loop["pid"], loop["server_pid"]
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            until(lambda: agents_below(server) - {pid})
            away.append((time.monotonic() - killed) * 1000)
            until(lambda: pids(control).get("builder") not in (None, pid))
            ask(control, do="stop", which={"loops": ["builder"]})
            ask(control, do="start", which={"loops": ["builder"]})
            until(lambda: pids(control).get("builder"))
        away.sort()
        print("supervisor run -> three agents up: %.0f ms" % first)
        print(
            "SIGKILL of an agent -> its successor's pid, %d times: median %.1f ms, 90 %% under %.1f ms, longest %.1f ms"
            % (rounds, statistics.median(away), away[int(len(away) * 0.9)], away[-1])
        )
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
        shutil.rmtree(folder)


main()
