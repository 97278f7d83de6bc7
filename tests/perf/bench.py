"""The benchmarks behind ci/bench: ratios of a subject to a reference, measured in alternating windows of one run.

    bench.py [--token softhsm|nss] [--row NAME ...] [--lanes N] [--pairs N] [--window-ms N] [--budget-s N]

Why ratios: the machine is shared and its speed changes by the minute, but a subject and a reference that take turns
every second meet the same machine. A pair is one window of each; the order within a pair alternates, so that a drift
favours nobody. What is reported is the median of the pairs' ratios with its quartiles. A window in which the
hypervisor took more than 5 % of the processors' time is discarded with its pair, and counted. Nothing here passes or
fails: the figures are printed beside what they are meant to be.

CPU is what the scheduler accounted to all threads of the service's processes (/proc/PID/task/*/schedstat); the load
generator's is never counted, but it shares the processors, which is why throughput is only ever a ratio too.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

from kbsguest import Guest  # noqa: E402
from service import BIN, START_S, TOKENS, Service, wait_until  # noqa: E402

TOOLS = BIN.parent / "tests" / "bin"
KEY = "default/key/nr-1"  # a kid as long as perf_bare's
CONNECTIONS = 8
# A lane sleeps while the disk makes its deed durable. Two for each processor keep the processors at work, and what
# they sync together is one sync.
LANES = 2 * os.cpu_count()
STEAL_MAX = 0.05
WHAT = {
    "release": "CPU of kbs_release(), in process, over the PKCS#11 calls of its rung",
    "channel": "releases/s of kbs-token on its judge channel over those calls",
    "service": "CPU per release of all roles over those calls",
    "lanes": "releases/s of the service with its lanes over 1 lane; the load is on the same processors",
    "audit": "CPU per release of all roles over the same without kbs-audit (a stand-in acknowledges)",
}
SKIPPED = 77  # exit status of perf_bare without the module
ROLES = ("kbs-front", "kbs-judge", "kbs-token", "kbs-audit", "kbsd")


def processor_times():
    """(stolen, all) in ticks since boot, of all processors."""
    with open("/proc/stat") as stat:
        fields = [int(text) for text in stat.readline().split()[1:9]]
    return fields[7], sum(fields)


def cpu_ns(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


class Tool:
    """A program that takes one order per line and answers each with a line."""

    def __init__(self, stack, *argv, folder, answer_s=30):
        self.name = pathlib.Path(argv[0]).name
        self.log = stack.enter_context(open(folder / f"{self.name}.log", "ab"))
        self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, bufsize=1,
                                        env={**os.environ, "KBS_BIN_DIR": str(BIN), "TMPDIR": str(folder)})
        self.answer_s = answer_s
        stack.callback(self.stop)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended: " + pathlib.Path(self.log.name).read_text())
        return line.split()

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        return self.answer()

    def stop(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(self.answer_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Absent(Exception):
    """The token's module is not installed."""


class Run:
    """A service under load."""

    def __init__(self, stack, folder, token, lanes, audited=True):
        self.service = Service(folder, token, lanes)
        for name in ("timeout", "duration_min"):
            self.service.edit_config(rf"^{name} = .*$", f"{name} = 60")
        stack.callback(self.service.stop)
        self.service.start()
        self.service.generate(KEY)
        if not audited:
            self.restart_unaudited()
        guest = Guest(self.service.guest_url, self.service.ca).handshake()
        assert guest.get_key(KEY).status == 200
        guest.close()
        port = urllib.parse.urlsplit(self.service.guest_url).port
        self.load = Tool(stack, TOOLS / "perf_load", port, self.service.ca, guest.cookie, "/kbs/v0/key/" + KEY,
                         CONNECTIONS, folder=self.service.folder)
        roles = self.service.roles()
        self.pids = {name: [r["pid"] for r in roles if r["role"] == name] for name in ROLES}
        self.pids["kbsd"] = [self.service.process.pid]
        self.counted = ROLES if audited else [name for name in ROLES if name != "kbs-audit"]
        self.per_role = []  # one {role: ns per release} per window
        self.window(300)
        self.per_role.clear()

    def restart_unaudited(self):
        """The same service with the stand-in for kbs-audit beside links to the real roles."""
        service = self.service
        service.stop()
        service.announce.unlink(missing_ok=True)
        libexec = service.folder / "libexec"
        libexec.mkdir()
        for role in ("kbs-front", "kbs-judge", "kbs-token"):
            (libexec / role).symlink_to(BIN / role)
        (libexec / "kbs-audit").symlink_to(TOOLS / "perf_audit_at_once")
        service.log = open(service.folder / "kbsd.log", "ab")
        service.process = subprocess.Popen([BIN / "kbsd", "-c", service.folder / "kbs.toml", "--libexec", libexec,
                                            "--announce", service.announce],
                                           stdin=subprocess.DEVNULL, stdout=service.log, stderr=service.log)
        wait_until(service.is_ready, START_S, "service with the stand-in ready")

    def cpu(self):
        return {name: sum(cpu_ns(pid) for pid in self.pids[name]) for name in ROLES}

    def window(self, ms):
        """(CPU ns per release, releases per second) of one window."""
        self.load.ask("open")
        before = self.cpu()
        releases, wall_ns = (int(text) for text in self.load.ask(f"run {ms}"))
        after = self.cpu()
        role_ns = {name: (after[name] - before[name]) / releases for name in ROLES}
        self.per_role.append(role_ns)
        return sum(role_ns[name] for name in self.counted), releases * 1e9 / wall_ns

    def cpu_window(self, ms):
        return self.window(ms)[0]

    def rate_window(self, ms):
        return self.window(ms)[1]


class Bare:
    """The token alone (perf_bare)."""

    def __init__(self, stack, folder, token):
        self.tool = Tool(stack, TOOLS / "perf_bare", token, folder=folder)
        try:
            _ready, self.rung = self.tool.answer()
        except RuntimeError:
            if self.tool.process.wait() == SKIPPED:
                raise Absent from None
            raise
        for mode in ("bare", "release", "channel"):
            self.window(mode, 200)

    def window(self, mode, ms):
        releases, cpu, wall = (int(text) for text in self.tool.ask(f"{mode} {ms}"))
        return cpu / releases, releases * 1e9 / wall

    def cpu_of(self, mode):
        return lambda ms: self.window(mode, ms)[0]

    def rate_of(self, mode):
        return lambda ms: self.window(mode, ms)[1]


class Row:
    """A ratio: pairs of windows until there are enough, or time is up."""

    def __init__(self, name, unit, aim=""):
        self.name, self.unit, self.aim = name, unit, aim
        self.pairs, self.discarded = [], 0

    def window(self, measure, ms):
        stolen, ticks = processor_times()
        value = measure(ms)
        stolen_after, ticks_after = processor_times()
        steal = (stolen_after - stolen) / max(1, ticks_after - ticks)
        return value, steal > STEAL_MAX

    def measure(self, subject, reference, arguments, deadline):
        for turn in range(2 * arguments.pairs):
            if len(self.pairs) == arguments.pairs or time.monotonic() > deadline:
                break
            order = [subject, reference] if turn % 2 == 0 else [reference, subject]
            windows = [self.window(one, arguments.window_ms) for one in order]
            stolen = sum(lost for _, lost in windows)
            self.discarded += stolen
            if not stolen:
                values = [value for value, _ in windows]
                self.pairs.append(tuple(values if turn % 2 == 0 else reversed(values)))
        return self

    def text(self, token):
        name = f"{token:8} {self.name:8}"
        if len(self.pairs) < 2:
            return f"{name} no figure: {len(self.pairs)} pairs, {self.discarded} windows discarded"
        low, middle, high = statistics.quantiles((s / r for s, r in self.pairs), n=4, method="inclusive")
        subject, reference = (statistics.median(column) for column in zip(*self.pairs))
        return (f"{name} {middle:6.3f}  {low:6.3f}..{high:<6.3f} {len(self.pairs):5} {self.discarded:9}  "
                f"{subject:7.1f} / {reference:7.1f} {self.unit:10} {self.aim}")


def micro(measure):
    return lambda ms: measure(ms) / 1000


def bench_token(token, arguments, deadline, folder):
    def wanted(name):
        return not arguments.row or name in arguments.row

    def row(name, subject, reference, unit="us", aim=""):
        if wanted(name):
            one = Row(name, unit, aim).measure(subject, reference, arguments, deadline)
            print(one.text(token), flush=True)

    with contextlib.ExitStack() as stack:
        bare = Bare(stack, folder, token)
        bare_us = micro(bare.cpu_of("bare"))
        row("release", micro(bare.cpu_of("release")), bare_us)
        row("channel", bare.rate_of("channel"), bare.rate_of("bare"), "releases/s", "aim >= 0.93")
        if not any(map(wanted, ("service", "lanes", "audit"))):
            return
        many = Run(stack, folder / "many", token, arguments.lanes)
        row("service", micro(many.cpu_window), bare_us, aim="aim <= 1.25" if token == "softhsm" else "aim <= 1.1")
        if many.per_role:
            shares = (f"{name} {statistics.median(w[name] for w in many.per_role) / 1000:.0f}" for name in ROLES)
            print(f"{token:8} us of CPU per release: {', '.join(shares)}", flush=True)
        if wanted("lanes"):
            one = Run(stack, folder / "one", token, lanes=1)
            row("lanes", many.rate_window, one.rate_window, "releases/s", "aim >= 1.7")
        if wanted("audit"):
            unaudited = Run(stack, folder / "unaudited", token, arguments.lanes, audited=False)
            row("audit", micro(many.cpu_window), micro(unaudited.cpu_window))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--token", choices=TOKENS, action="append")
    parser.add_argument("--row", choices=WHAT, action="append")
    parser.add_argument("--lanes", type=int, default=LANES, help="of the service (default: two per processor)")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--window-ms", type=int, default=1000)
    parser.add_argument("--budget-s", type=int, default=260, help="no window begins after this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that everything is stopped
    tokens = arguments.token or ["softhsm", "nss"]
    begin = time.monotonic()
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} processors, {arguments.lanes} lanes, {CONNECTIONS} TLS "
          f"connections, P-256, JOSE, windows of {arguments.window_ms / 1000:g} s")
    for name, what in WHAT.items():
        print(f"  {name:8} {what}")
    print("token    row      median     p25..p75    pairs discarded  subject / reference")
    for n, token in enumerate(tokens):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="kbs-bench-"))
        try:
            # Each token has its share of the time, and what the ones before it left over.
            bench_token(token, arguments, begin + arguments.budget_s * (n + 1) / len(tokens), folder)
        except Absent:
            print(f"{token:8} skipped: its module is not installed")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
