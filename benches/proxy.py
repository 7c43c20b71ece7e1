#!/usr/bin/env python3
"""proxy-shim beside other SOCKS servers and other ProxyCommand helpers, all in one run, their rounds interleaved.

usage: benches/proxy.py [--shim FILE] [--rounds N] [--mib N] [--write]

Takes microsocks and dante (danted) as servers and nc, ncat and connect-proxy as helpers, those that are installed; ssh
needs sshd. --write puts the tables into benches/README.md. Listens on loopback only; ends everything it started.
"""
import argparse, array, os, pathlib, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time

HERE = pathlib.Path(__file__).resolve().parent
CHUNK = bytes(1 << 20)
TICKS = os.sysconf("SC_CLK_TCK")
Table = tuple[str, list[str], list[list[str]]]


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


def through_helper(argv: list[str], mib: int) -> tuple[float, float]:
    """CPU seconds per GiB of the helper alone, and MiB/s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    buffer, got = bytearray(1 << 20), 0
    while got < mib << 20:
        n = os.readv(process.stdout.fileno(), [buffer])
        if n == 0:
            break
        got += n
    took = time.perf_counter() - began
    process.stdin.close()
    process.stdout.close()
    process.terminate()
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert got == mib << 20, (argv, got)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used * 1024 / mib, mib / took


def through_server(proxy: int, pid: int, port: int, mib: int) -> tuple[float, float]:
    """MiB/s and CPU seconds per GiB."""
    s = socks(proxy, port)
    before, began, got, buffer = cpu(pid), time.perf_counter(), 0, bytearray(1 << 20)
    while got < mib << 20:
        n = s.recv_into(buffer)
        assert n > 0
        got += n
    took = time.perf_counter() - began
    used = cpu(pid) - before
    s.close()
    return mib / took, used * 1024 / mib


def median(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f}"


def measure_servers(rig: Rig, rounds: int, mib: int) -> Table:
    says, flood = serve(banner), serve(source(mib))
    first: dict[str, list[float]] = {name: [] for name in rig.servers}
    rate: dict[str, list[float]] = {name: [] for name in rig.servers}
    used: dict[str, list[float]] = {name: [] for name in rig.servers}
    for _ in range(rounds):
        for name, (port, _) in rig.servers.items():
            began = time.perf_counter()
            s = socks(port, says)
            s.recv(1)
            first[name].append((time.perf_counter() - began) * 1000)
            s.close()
    for _ in range(5):
        for name, (port, pid) in rig.servers.items():
            fast, cost = through_server(port, pid, flood, mib)
            rate[name].append(fast)
            used[name].append(cost)
    rows = []
    for name, (port, pid) in rig.servers.items():
        memory = []
        for count in (1, 1000):
            held = []
            try:
                for _ in range(count):
                    held.append(socks(port, says))
                memory.append(f"{pss(pid):.1f}")
            except OSError as e:
                memory.append(f"fails: {e}")
            for s in held:
                s.close()
        rows.append([name, median(first[name], 2), median(rate[name], 0), median(used[name], 2), *memory])
    head = ["server", "first byte, ms", "MiB/s", "CPU s per GiB", "MiB at 1 connection", "at 1,000"]
    return "SOCKS servers", head, rows


def measure_helpers(rig: Rig, rounds: int, mib: int, proxy: str) -> Table:
    helpers = rig.helpers(rig.servers[proxy][0])
    says, flood = serve(banner), serve(source(mib))
    first: dict[str, list[float]] = {name: [] for name in helpers}
    for _ in range(rounds):
        for name, (argv, passes) in helpers.items():
            first[name].append(first_byte([*argv, "127.0.0.1", str(says)], passes))
    cost: dict[str, list[float]] = {name: [] for name in helpers}
    rate: dict[str, list[float]] = {name: [] for name in helpers}
    for _ in range(3):
        for name, (argv, passes) in helpers.items():
            if not passes:
                used, fast = through_helper([*argv, "127.0.0.1", str(flood)], mib)
                cost[name].append(used)
                rate[name].append(fast)
    ssh = measure_ssh(rig, helpers, mib)
    rows = []
    for name, (_, passes) in helpers.items():
        relay = ["0 (gone)", "–"] if passes else [median(cost[name], 2), median(rate[name], 0)]
        rows.append([name, median(first[name], 2), *relay, median(ssh[name], 0) if ssh else "–"])
    head = ["helper", "first byte, ms (whole process)", "CPU s per GiB", "MiB/s", "ssh through it, MiB/s"]
    return f"ProxyCommand helpers, all through {proxy}", head, rows


def measure_ssh(rig: Rig, helpers: dict[str, tuple[list[str], bool]], mib: int) -> dict[str, list[float]]:
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
    rate: dict[str, list[float]] = {name: [] for name in helpers}
    for _ in range(3):
        for name, (argv, passes) in helpers.items():
            proxy = ["-o", f"ProxyCommand={' '.join(argv)} %h %p", "-o", f"ProxyUseFdpass={'yes' if passes else 'no'}"]
            began = time.perf_counter()
            command = ["127.0.0.1", f"head -c {mib << 20} /dev/zero"]
            subprocess.run([*base, *proxy, *command], check=True, stdout=subprocess.DEVNULL)
            rate[name].append(mib / (time.perf_counter() - began))
    return rate


def text(tables: list[Table]) -> str:
    out = []
    for title, head, rows in tables:
        out += [f"{title}:", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        out += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    return "\n".join(out)


def write(tables: str) -> None:
    page = HERE / "README.md"
    begin, end = "<!-- benches/proxy.py: begin -->", "<!-- benches/proxy.py: end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{tables}{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--shim", default="target/release/proxy-shim")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    # The `finally` is for this end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("proxy.py: ended"))
    rig = Rig(os.path.abspath(args.shim))
    try:
        rig.start_servers()
        through = "microsocks" if "microsocks" in rig.servers else "proxy-shim"
        tables = text([measure_servers(rig, args.rounds, args.mib), measure_helpers(rig, args.rounds, args.mib, through)])
        print(tables)
        if args.write:
            write(tables + "\n")
    finally:
        rig.end()


if __name__ == "__main__":
    main()
