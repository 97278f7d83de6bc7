"""The benchmarks behind ci/bench-tls: what a TLS handshake costs, and whom it disturbs.

    tls.py [--row nginx|held|gap|hang ...] [--pairs N] [--window-ms N] [--connections N] [--sign-ms N] [--real-time]
           [--budget-s N]

As in bench.py, figures are ratios of a subject to a reference that take turns in windows, because the machine's speed
changes by the minute; a row is the median of the pairs' ratios with its quartiles. Gaps are times, so they stand beside
those of the same machine at rest. With other work on the machine most of a gap is time that a server waited for a
processor; --real-time (root) has servers, probes and clients, in this order, before all else there.
Nothing here passes or fails on time.

NGINX names the nginx (ci/bench-tls finds one or fetches it).
"""
import argparse
import contextlib
import json
import os
import pathlib
import pwd
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "front"), str(HERE.parent / "mock")]

from bench import Absent, Row, cpu_ns  # noqa: E402
from harness import Credentials, Front  # noqa: E402
from mocktoken import MockToken  # noqa: E402
from service import BIN, START_S, Service, run, wait_until  # noqa: E402

TOOLS = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests" / "bin"
PROBES = 4
HANG_MS = 2000  # a client's patience; the service's own is longer
WHAT = {
    "nginx": "full handshakes per CPU second, kbs-front with its key in a file over nginx with the same certificate",
    "held": "full handshakes per second, key in a token that takes its time to sign over a server that signs on its loop",
    "gap": "answers to GET /healthz on open connections, one sent every millisecond, while others shake hands",
    "hang": "the same while the token never answers",
}


# ---- the client ----

def client(credentials, port, *options):
    return [TOOLS / "perf_handshakes", "--pin", credentials.cert, *map(str, options), f"127.0.0.1:{port}"]


def handshakes(credentials, port, *options, may_fail=False, real_time=False):
    prefix = ["chrt", "--rr", "1"] if real_time else []
    done = subprocess.run([*prefix, *client(credentials, port, *options)], check=True, stdout=subprocess.PIPE, text=True,
                          timeout=120)
    result = json.loads(done.stdout)
    if result["failures"] and not may_fail:
        raise RuntimeError(f"{result['failures']} handshakes failed: {result['failure']}")
    return result


def before_all_else(pid):
    """All threads that a process has now, and what they will make; also before the client that shakes hands."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(2))


@contextlib.contextmanager
def probes(server, ms):
    """Probes in a process of their own, which has work to do a tenth of the time."""
    process = subprocess.Popen(client(server.credentials, server.port, "--connections", 0, "--probes", PROBES,
                                      "--seconds", ms / 1000), stdout=subprocess.PIPE, text=True)
    try:
        if server.real_time:
            before_all_else(process.pid)
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("no probes")
        found = {}
        yield found
        found.update(json.loads(process.communicate(timeout=60)[0])["probes"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# ---- servers ----

class Nginx:
    """nginx with one worker that does what a front does, as far as its configuration goes."""

    def __init__(self, stack, folder, credentials):
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=511))
        self.port = listener.getsockname()[1]
        configuration = folder / "nginx.conf"
        configuration.write_text(f"""
            daemon off;
            worker_processes 1;
            user {pwd.getpwuid(os.getuid()).pw_name};
            pid {folder}/nginx.pid;
            error_log {folder}/nginx.log;
            events {{ worker_connections 2048; }}
            http {{
                access_log off;
                server_tokens off;
                {"".join(f"{name}_temp_path {folder}/{name};" for name in
                         ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
                server {{
                    listen 127.0.0.1:{self.port} ssl;
                    ssl_certificate {credentials.cert};
                    ssl_certificate_key {credentials.key};
                    ssl_protocols TLSv1.3;
                    ssl_ecdh_curve X25519;
                    ssl_session_tickets off;
                    ssl_session_cache off;
                    ssl_conf_command NumTickets 0; # else two that only this process could take
                    location / {{ return 200; }}
                }}
            }}""")
        # A socket that it finds open, as in an upgrade of its binary: no port is guessed.
        listener.set_inheritable(True)
        self.process = subprocess.Popen([os.environ["NGINX"], "-p", folder, "-c", configuration, "-e", folder / "nginx.log"],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        pass_fds=[listener.fileno()], env={**os.environ, "NGINX": f"{listener.fileno()};"})
        stack.callback(self.stop)

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class OnLoop:
    """The server that signs on its loop (on_loop.c)."""

    real_time = False

    def __init__(self, stack, credentials, sign_ms):
        self.credentials = credentials
        self.process = subprocess.Popen([TOOLS / "perf_on_loop", credentials.cert, credentials.key, str(sign_ms)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pids = lambda: [self.process.pid]
        stack.callback(self.stop)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class Held:
    """A whole service whose key of TLS is in a mock token that takes a while for each signature."""

    real_time = False

    def __init__(self, stack, folder, sign_ms):
        if "--tls-key" not in run(BIN / "kbs-admin", "init", "--help").stdout:
            raise Absent
        service = self.service = self.credentials = Service(folder / "service", "mock", init=["--tls-key", "token"])
        service.cert = service.ca
        self.token = MockToken(service)
        self.token.configure(f"latency = C_Sign {sign_ms}")
        stack.callback(service.stop)
        service.start()
        self.port = int(service.guest_url.rstrip("/").rsplit(":", 1)[1])
        wait_until(self.answers, START_S, "handshakes")

    def pids(self):
        """Of the front and its sign worker."""
        return [r["pid"] for unit in ("front-guest", "sign-guest") for r in self.service.roles() if r["unit"].startswith(unit)]

    def answers(self):
        return handshakes(self.credentials, self.port, "--count", 1, "--timeout", HANG_MS, may_fail=True)["handshakes"] == 1


def children(pid):
    return [int(text) for text in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- rows ----

def rate(server, arguments):
    def window(ms):
        return handshakes(server.credentials, server.port, "--seconds", ms / 1000,
                          "--connections", arguments.connections)["per_second"]
    return window


def rate_by_cpu(pid, port, credentials, arguments):
    """Measures full handshakes per second of CPU of a process and its children."""
    def cpu():
        return sum(cpu_ns(one) for one in [pid, *children(pid)])

    def window(ms):
        before = cpu()
        result = handshakes(credentials, port, "--seconds", ms / 1000, "--connections", arguments.connections)
        return result["handshakes"] * 1e9 / (cpu() - before)
    return window


def row_nginx(arguments, folder, credentials):
    with contextlib.ExitStack() as stack:
        front = stack.enter_context(Front(max_connections=1024, credentials=credentials, attach=False))
        nginx = Nginx(stack, folder, credentials)
        windows = []
        for name, pid, port in (("kbs-front", front.pid, front.tls.getsockname()[1]),
                                ("nginx", nginx.process.pid, nginx.port)):
            first = handshakes(credentials, port, "--count", 200, "--connections", arguments.connections)
            print(f"nginx  {name}: {first['tls']}; the client's own CPU {first['cpu_seconds'] / 200 * 1e6:.0f} us")
            windows.append(rate_by_cpu(pid, port, credentials, arguments))
        row = Row("nginx", "per CPU-s", "aim >= 0.9")
        print(row.measure(*windows, arguments, arguments.deadline).text("file"), flush=True)


def row_held(arguments, held, on_loop):
    shares = []  # us of CPU per handshake: front, sign worker, client; and processors that they had together

    def window(ms):
        before = [cpu_ns(pid) for pid in held.pids()]
        result = handshakes(held.credentials, held.port, "--seconds", ms / 1000, "--connections", arguments.connections)
        used = [(cpu_ns(pid) - was) / 1000 for pid, was in zip(held.pids(), before)] + [result["cpu_seconds"] * 1e6]
        shares.append([us / result["handshakes"] for us in used] + [sum(used) / 1e6 / result["seconds"]])
        return result["per_second"]

    row = Row("held", "per second", "aim >= 10")
    print(row.measure(window, rate(on_loop, arguments), arguments, arguments.deadline).text("mock"))
    front, signer, client_us, processors = (statistics.median(column) for column in zip(*shares))
    print(f"held   us of CPU per handshake: front {front:.0f}, sign worker {signer:.0f}, the client itself {client_us:.0f}; "
          f"all together had {processors:.2f} processors", flush=True)


class Gaps:
    """What probes saw in one state of a server, window by window."""

    def __init__(self, name, server, during, after=lambda: None):
        self.name, self.server, self.during, self.after = name, server, during, after
        self.windows = []

    def window(self, ms):
        if self.server.real_time:
            for pid in self.server.pids():  # some may be new
                before_all_else(pid)
        with probes(self.server, ms) as found:
            self.during(ms)
        self.windows.append(found)
        self.after()

    def text(self):
        if len(self.windows) < 2:
            return f"{self.name:18} no figure"
        p50, p99, longest, late = (statistics.median(w[name] for w in self.windows) for name in ("p50", "p99", "longest", "late"))
        least, *_, greatest = sorted(w["longest"] for w in self.windows)
        return (f"{self.name:18} {p50:8.2f} {p99:8.2f} {longest:8.2f}  {least:8.2f}..{greatest:<8.2f} {late:6.2f} "
                f"{len(self.windows):5}")


def shake_hands(server, arguments):
    return lambda ms: handshakes(server.credentials, server.port, "--seconds", ms / 1000 - 0.2,
                                 "--connections", arguments.connections, real_time=arguments.real_time)


def show_gaps(gaps, arguments):
    """All of them in turn, so that they meet the same machine."""
    for one in gaps:
        one.server.real_time = arguments.real_time
    for _ in range(arguments.pairs):
        for one in gaps:
            if time.monotonic() < arguments.deadline:
                one.window(arguments.window_ms)
    print("ms: medians of windows      p50      p99  longest   least..greatest   late windows")
    for one in gaps:
        print(one.text(), flush=True)


class Alone:
    """A front without a service, its key in a file."""

    real_time = False

    def __init__(self, stack, credentials):
        front = stack.enter_context(Front(max_connections=1024, credentials=credentials, attach=False))
        self.pids = lambda: [front.pid]
        self.credentials, self.port = credentials, front.tls.getsockname()[1]


def row_gap(arguments, held, on_loop, alone):
    subject = held or alone
    gaps = [Gaps("at rest", subject, lambda ms: None), Gaps("key in a file", alone, shake_hands(alone, arguments))]
    if held:
        gaps.append(Gaps("key in the token", held, shake_hands(held, arguments)))
    gaps.append(Gaps("signs on its loop", on_loop, shake_hands(on_loop, arguments)))
    show_gaps(gaps, arguments)


def row_hang(arguments, held):
    def hang(ms):
        held.token.script("C_Sign always hang")
        failed = handshakes(held.credentials, held.port, "--seconds", ms / 1000 - 0.2, "--timeout", HANG_MS,
                            "--connections", arguments.connections, may_fail=True, real_time=arguments.real_time)
        outcomes.append((failed["handshakes"], failed["failures"]))

    def heal():
        held.token.script()
        wait_until(held.answers, START_S, "handshakes again")

    outcomes = []
    show_gaps([Gaps("at rest", held, lambda ms: None), Gaps("token hangs", held, hang, heal)], arguments)
    print("token hangs: handshakes done and given up, by window: " + ", ".join(f"{d} and {f}" for d, f in outcomes))


def measure(arguments, folder, credentials):
    def wanted(*names):
        return not arguments.row or any(name in arguments.row for name in names)

    if wanted("nginx"):
        row_nginx(arguments, folder, credentials)
    if not wanted("held", "gap", "hang"):
        return
    with contextlib.ExitStack() as stack:
        on_loop = OnLoop(stack, credentials, arguments.sign_ms)
        try:
            held = Held(stack, folder, arguments.sign_ms)
        except Absent:
            held = None
            print("held, hang: skipped, this build has no key of TLS in a token")
        if held and wanted("held"):
            row_held(arguments, held, on_loop)
        if wanted("gap"):
            row_gap(arguments, held, on_loop, Alone(stack, credentials))
        if held and wanted("hang"):
            row_hang(arguments, held)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", choices=WHAT, action="append")
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--window-ms", type=int, default=1500)
    parser.add_argument("--connections", type=int, default=32, help="handshakes in flight")
    parser.add_argument("--sign-ms", type=int, default=10, help="how long the mock takes for a signature")
    parser.add_argument("--real-time", action="store_true", help="gaps: servers, probes and clients before all else (root)")
    parser.add_argument("--budget-s", type=int, default=260, help="no window begins after this")
    arguments = parser.parse_args()
    begin = time.monotonic()
    arguments.deadline = begin + arguments.budget_s
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that everything is stopped
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, P-256, {arguments.connections} handshakes in flight, "
          f"{arguments.sign_ms} ms for a signature in the token, windows of {arguments.window_ms / 1000:g} s")
    for name, what in WHAT.items():
        print(f"  {name:6} {what}")
    print("key      row      median     p25..p75    pairs discarded  subject / reference")
    with tempfile.TemporaryDirectory(prefix="kbs-bench-tls-") as name:
        measure(arguments, pathlib.Path(name), Credentials(name))
    print(f"{time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
