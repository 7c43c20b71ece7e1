#!/usr/bin/env python3
"""proxy-shim beside other SOCKS servers and other ProxyCommand helpers, all in one run, their rounds interleaved.

usage: benches/proxy.py [--shim FILE] [--rounds N] [--mib N] [--minutes N] [--readme]

Takes microsocks and dante (danted) as servers and nc, ncat and connect-proxy as helpers, those that are installed; ssh
needs sshd. A part that takes too long does fewer rounds, so that all of it ends within --minutes. --readme puts the
tables into benches/README.md. Listens on loopback only; ends everything it started.
"""
import argparse
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

from peers.report import machine

HERE = pathlib.Path(__file__).resolve().parent
CHUNK = bytes(1 << 20)
TICKS = os.sysconf("SC_CLK_TCK")
Table = tuple[str, list[str], list[list[str]]]
# What is installed, for the page.
PACKAGES = ["microsocks", "dante-server", "netcat-openbsd", "ncat", "connect-proxy", "openssh-server"]
NATIVE = "ssh without a proxy"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def wait_for_port(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.005)
    sys.exit(f"proxy.py: nothing listens on port {port}")


def serve(handle) -> int:
    """A destination: each connection in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)

    def accept() -> None:
        while True:
            threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def banner(s: socket.socket) -> None:
    s.sendall(b"SSH-2.0-bench\r\n")
    try:
        s.recv(1)
    except OSError:
        pass
    s.close()


def source(mib: int):
    def handle(s: socket.socket) -> None:
        try:
            for _ in range(mib):
                s.sendall(CHUNK)
        except OSError:
            pass
        s.close()

    return handle


def socks(proxy: int, port: int) -> socket.socket:
    s = socket.create_connection(("127.0.0.1", proxy))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(b"\5\1\0")
    assert s.recv(2) == b"\5\0"
    s.sendall(b"\5\1\0\1\x7f\0\0\1" + port.to_bytes(2, "big"))
    reply = b""
    while len(reply) < 10:
        part = s.recv(10 - len(reply))
        if not part:
            raise ConnectionError("the server hung up")
        reply += part
    assert reply[1] == 0, reply
    return s


def tree(pid: int) -> list[int]:
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [p for child in children for p in tree(int(child))]


def cpu(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    total = 0
    for p in tree(pid):
        fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pss(pid: int) -> float:
    """MiB."""
    kib = 0
    for p in tree(pid):
        for line in pathlib.Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


class Clock:
    """Shares out the time: each part has its portion of the minutes, and does one round at least."""

    def __init__(self, minutes: float) -> None:
        self.seconds = minutes * 60
        self.did: list[str] = []

    def rounds(self, part: str, share: float, most: int) -> Iterator[int]:
        end, done = time.monotonic() + self.seconds * share, 0
        while done < most and (done == 0 or time.monotonic() < end):
            yield done
            done += 1
        self.did.append(f"{part} {done}")
        print(f"proxy.py: {part}: {done} rounds", file=sys.stderr, flush=True)


class Rig:
    def __init__(self, shim: str) -> None:
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cc-bench."))
        self.shim = shim
        self.started: list[subprocess.Popen] = []
        self.servers: dict[str, tuple[int, int]] = {}

    def start(self, argv: list[str], port: int) -> int:
        log = open(self.dir / "log", "ab")
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        self.started.append(process)
        wait_for_port(port)
        return process.pid

    def start_servers(self) -> None:
        port = free_port()
        config = self.dir / "proxy-shim.toml"
        config.write_text(
            f'upstream = "direct"\nlisten = "127.0.0.1:{port}"\nruntime_dir = "{self.dir}/run"\nmax_connections = 4000\n'
        )
        self.servers["proxy-shim"] = (port, self.start([self.shim, "run", "--config", str(config)], port))
        if shutil.which("microsocks"):
            port = free_port()
            self.servers["microsocks"] = (port, self.start(["microsocks", "-i", "127.0.0.1", "-p", str(port)], port))
        if shutil.which("danted"):
            port = free_port()
            config = self.dir / "danted.conf"
            config.write_text(
                f"logoutput: {self.dir}/dante.log\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nsocksmethod: none\n"
                "clientmethod: none\nclient pass { from: 0/0 to: 0/0 }\nsocks pass { from: 0/0 to: 0/0 }\n"
            )
            argv = ["danted", "-f", str(config), "-p", str(self.dir / "danted.pid")]
            self.servers["dante"] = (port, self.start(argv, port))

    def end(self) -> None:
        for process in self.started:
            # A group of its own each: dante's workers end with it.
            os.killpg(process.pid, signal.SIGTERM)
        for process in self.started:
            process.wait(20)
        shutil.rmtree(self.dir)

    def helpers(self, proxy: int) -> dict[str, tuple[list[str], bool]]:
        """Name → argv without host and port, and whether it passes the socket on."""
        address = f"127.0.0.1:{proxy}"
        shim = [self.shim, "connect", "--proxy", address]
        all_of_them = {
            "proxy-shim connect": (shim, False),
            "proxy-shim connect --fdpass": ([*shim, "--fdpass"], True),
            "nc -X 5": (["nc", "-X", "5", "-x", address], False),
            "nc -F": (["nc", "-F", "-X", "5", "-x", address], True),
            "ncat": (["ncat", "--proxy-type", "socks5", "--proxy", address], False),
            "connect-proxy": (["connect-proxy", "-R", "remote", "-S", address], False),
        }
        return {name: value for name, value in all_of_them.items() if shutil.which(value[0][0])}


def first_byte(argv: list[str], passes: bool) -> float:
    """Milliseconds from spawn to the first byte of the destination, as ssh has it."""
    began = time.perf_counter()
    if passes:
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, close_fds=False)
        theirs.close()
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        s = socket.socket(fileno=fds[0])
        s.setblocking(True)
        s.recv(1)
        took = time.perf_counter() - began
        s.close()
        ours.close()
    else:
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        os.read(process.stdout.fileno(), 1)
        took = time.perf_counter() - began
        process.stdin.close()
        process.stdout.close()
        process.terminate()
    process.wait()
    return took * 1000


def through_helper(argv: list[str], mib: int) -> tuple[float, float, float]:
    """CPU seconds of the helper alone, MiB/s, and its memory in MiB in the middle of it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    buffer, got, memory = bytearray(1 << 20), 0, 0.0
    while got < mib << 20:
        n = os.readv(process.stdout.fileno(), [buffer])
        if n == 0:
            break
        got += n
        if not memory and got >= mib << 19:
            memory = pss(process.pid)
    took = time.perf_counter() - began
    process.stdin.close()
    process.stdout.close()
    process.terminate()
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert got == mib << 20, (argv, got)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, mib / took, memory


def through_server(proxy: int, pid: int, port: int, mib: int) -> tuple[float, float]:
    """MiB/s and CPU seconds."""
    s = socks(proxy, port)
    before, began, got, buffer = cpu(pid), time.perf_counter(), 0, bytearray(1 << 20)
    while got < mib << 20:
        n = s.recv_into(buffer)
        assert n > 0
        got += n
    took = time.perf_counter() - began
    used = cpu(pid) - before
    s.close()
    return mib / took, used


def median(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f}"


def spread(values: list[float]) -> str:
    """Median and 90th percentile (nearest rank)."""
    return f"{statistics.median(values):.2f} / {sorted(values)[-(-9 * len(values) // 10) - 1]:.2f}"


def per_gib(seconds: list[float], mib: int) -> str:
    # Of all rounds together: the kernel counts a server's CPU in hundredths of a second.
    return f"{sum(seconds) * 1024 / mib / len(seconds):.2f}"


def memory_of(port: int, pid: int, says: int, count: int) -> str:
    held = []
    try:
        for _ in range(count):
            held.append(socks(port, says))
        return f"{pss(pid):.1f}"
    except OSError as e:
        return f"fails at {len(held)}: {e}"
    finally:
        for s in held:
            s.close()


def measure_servers(rig: Rig, clock: Clock, rounds: int, mib: int) -> Table:
    says, flood = serve(banner), serve(source(mib))
    names = list(rig.servers)
    first: dict[str, list[float]] = {name: [] for name in names}
    rate: dict[str, list[float]] = {name: [] for name in names}
    used: dict[str, list[float]] = {name: [] for name in names}
    for _ in clock.rounds("first byte of servers", 0.05, rounds):
        for name, (port, _) in rig.servers.items():
            began = time.perf_counter()
            s = socks(port, says)
            s.recv(1)
            first[name].append((time.perf_counter() - began) * 1000)
            s.close()
    for _ in clock.rounds("streams through servers", 0.25, 9):
        for name, (port, pid) in rig.servers.items():
            fast, cost = through_server(port, pid, flood, mib)
            rate[name].append(fast)
            used[name].append(cost)
    rows = []
    for name, (port, pid) in rig.servers.items():
        memory = [memory_of(port, pid, says, count) for count in (1, 1000)]
        rows.append([name, spread(first[name]), median(rate[name], 0), per_gib(used[name], mib), *memory])
    head = ["server", "first byte, ms: median / 90 %", "MiB/s", "CPU s per GiB", "MiB at 1 connection", "at 1,000"]
    return "SOCKS servers", head, rows


def measure_helpers(rig: Rig, clock: Clock, rounds: int, mib: int, proxy: str) -> Table:
    helpers = rig.helpers(rig.servers[proxy][0])
    says, flood = serve(banner), serve(source(mib))
    first: dict[str, list[float]] = {name: [] for name in helpers}
    for _ in clock.rounds("first byte of helpers", 0.15, rounds):
        for name, (argv, passes) in helpers.items():
            first[name].append(first_byte([*argv, "127.0.0.1", str(says)], passes))
    relays = [name for name, (_, passes) in helpers.items() if not passes]
    cost: dict[str, list[float]] = {name: [] for name in relays}
    rate: dict[str, list[float]] = {name: [] for name in relays}
    memory: dict[str, list[float]] = {name: [] for name in relays}
    for _ in clock.rounds("streams through helpers", 0.2, 5):
        for name in relays:
            used, fast, size = through_helper([*helpers[name][0], "127.0.0.1", str(flood)], mib)
            cost[name].append(used)
            rate[name].append(fast)
            memory[name].append(size)
    ssh = measure_ssh(rig, clock, helpers, mib)
    rows = []
    for name, (_, passes) in helpers.items():
        relay = ["0 (gone)", "–", "0 (gone)"]
        if not passes:
            relay = [per_gib(cost[name], mib), median(rate[name], 0), median(memory[name], 1)]
        rows.append([name, spread(first[name]), *relay, median(ssh[name], 0) if ssh else "–"])
    if ssh:
        rows.append([NATIVE, "–", "–", "–", "–", median(ssh[NATIVE], 0)])
    head = ["helper", "first byte, ms (whole process): median / 90 %", "CPU s per GiB", "MiB/s", "MiB"]
    head.append("ssh through it, MiB/s")
    return f"ProxyCommand helpers, all through {proxy}", head, rows


def measure_ssh(rig: Rig, clock: Clock, helpers: dict[str, tuple[list[str], bool]], mib: int) -> dict[str, list[float]]:
    if not os.path.exists("/usr/sbin/sshd"):
        return {}
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(rig.dir / name)], check=True)
    port = free_port()
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    options = {"StrictModes": "no", "UsePAM": "no", "PidFile": "none", "ListenAddress": f"127.0.0.1:{port}"}
    options |= {"HostKey": str(rig.dir / "host"), "AuthorizedKeysFile": str(rig.dir / "user.pub")}
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    rig.start(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *flags], port)
    base = ["ssh", "-F", "/dev/null", "-i", str(rig.dir / "user"), "-p", str(port), "-o", "StrictHostKeyChecking=no"]
    base += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes"]
    ways: dict[str, list[str]] = {NATIVE: []}
    for name, (argv, passes) in helpers.items():
        use = "yes" if passes else "no"
        ways[name] = ["-o", f"ProxyCommand={' '.join(argv)} %h %p", "-o", f"ProxyUseFdpass={use}"]
    rate: dict[str, list[float]] = {name: [] for name in ways}
    for _ in clock.rounds("ssh", 0.25, 5):
        for name, way in ways.items():
            began = time.perf_counter()
            command = ["127.0.0.1", f"head -c {mib << 20} /dev/zero"]
            subprocess.run([*base, *way, *command], check=True, stdout=subprocess.DEVNULL)
            rate[name].append(mib / (time.perf_counter() - began))
    return rate


def versions() -> str:
    """Of the Debian packages; elsewhere nothing."""
    if not shutil.which("dpkg-query"):
        return ""
    asked = subprocess.run(["dpkg-query", "-W", "-f=${Package} ${Version}\n", *PACKAGES], capture_output=True, text=True)
    return "Versions: " + "; ".join(line for line in asked.stdout.splitlines() if line.split()[1:]) + "."


def text(tables: list[Table]) -> str:
    out = []
    for title, head, rows in tables:
        out += [f"{title}:", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        out += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(out)


def write(tables: str) -> None:
    readme = HERE / "README.md"
    begin, end = "<!-- benches/proxy.py: begin -->", "<!-- benches/proxy.py: end -->"
    before, found, rest = readme.read_text().partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        sys.exit(f"proxy.py: replace the results in `{readme}`: it must have `{begin}`, then `{end}`")
    readme.write_text(f"{before}{begin}\n\n{tables}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--shim", default=str(HERE.parent / "target/release/proxy-shim"))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--readme", action="store_true")
    args = parser.parse_args()
    if not os.access(args.shim, os.X_OK):
        sys.exit(f"proxy.py: no `{args.shim}`; run `cargo build --release --locked`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # The `finally` is for this end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("proxy.py: ended"))
    rig, clock = Rig(os.path.abspath(args.shim)), Clock(args.minutes)
    began = time.monotonic()
    try:
        rig.start_servers()
        tables = [
            measure_servers(rig, clock, args.rounds, args.mib),
            # The fastest server, so that the helpers are what is measured.
            measure_helpers(rig, clock, args.rounds, args.mib, "proxy-shim"),
        ]
    finally:
        rig.end()
    took = (time.monotonic() - began) / 60
    did = f"Rounds: {', '.join(clock.did)}, each stream {args.mib} MiB; it took {took:.1f} minutes."
    page = "\n\n".join(part for part in [machine(), versions(), did, text(tables)] if part)
    print(page)
    if args.readme:
        write(page)


if __name__ == "__main__":
    main()
