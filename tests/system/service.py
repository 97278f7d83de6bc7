"""A whole kbs-hsm service for one test: its own folder and token, its own ports, the real executables."""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

BIN = pathlib.Path(os.environ.get("KBS_BIN_DIR", "build/dev/bin")).resolve()
TOKENS = ("nss", "softhsm")
CACHE = BIN.parent / "CMakeCache.txt"
SANITIZED = CACHE.exists() and re.search("^KBS_SANITIZE:[^=]*=.", CACHE.read_text(), re.M) is not None
# Where all a test shows on another token is the token. With sanitizers the quicker one: they see nothing of a module, and
# kbs-token's code for each module is run with them by the suites token-*.
EACH_TOKEN = ("softhsm",) if SANITIZED else TOKENS
# kbs-policy is not built where there is no cargo.
ROLES = ("kbs-front", "kbs-judge", "kbs-token", "kbs-audit", *(["kbs-policy"] if (BIN / "kbs-policy").exists() else []))
ALLOW_SAMPLE = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.tee", "equals": "sample"}]}]}
START_S = 120


def token_options(token):
    """How `kbs-admin init` is told. `mock` is the module of tests/mock, which is set up as SoftHSM is."""
    if token != "mock":
        return ["--token", token]
    return ["--token", "softhsm", "--module", BIN.parent / "tests" / "bin" / "libkbs-mock-p11.so"]


def run(*argv, check=True, **kwargs):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=120, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{argv[0]} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def wait_until(condition, seconds=60, what="condition"):
    """Waits for an event that has no descriptor to wait on; never longer than `seconds`."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        poll.poll(20)


class Service:
    def __init__(self, folder, token, lanes=2, init=()):
        self.folder = pathlib.Path(folder)
        self.token = token
        self.process = None
        self.kbsd = [BIN / "kbsd"]
        self.configuration = "kbs.toml"
        self.log_name = "kbsd.log"
        run(BIN / "kbs-admin", "init", self.folder, *token_options(token), "--listen", "127.0.0.1:0",
            "--admin-listen", "127.0.0.1:0", "--lanes", lanes, *init)
        self.ca = self.folder / "tls" / "cert.pem"
        self.announce = self.folder / "announce.json"
        config = (self.folder / "kbs.toml").read_text()
        self.ledger_path, self.store_path = (
            self.folder / re.search(rf'^\[{table}\]\npath = "(.+)"$', config, re.M).group(1)
            for table in ("audit", "store"))

    def edit_config(self, pattern, replacement):
        path = self.folder / "kbs.toml"
        text, n = re.subn(pattern, replacement, path.read_text(), flags=re.M)
        assert n == 1, f"{pattern} matches {n} times in kbs.toml"
        path.write_text(text)

    def limit_auth(self, per_second):
        """Handshakes of one source; 0 for any number. All of a test come from one."""
        self.edit_config(r"^\[limits\]$", f"[limits]\nauth_per_second = {per_second}")

    def add_plain_listener(self, address="127.0.0.1:0"):
        self.edit_config(r"^plain_sockets = .*$", f'plain_sockets = ["{address}"]')

    def start(self, ready=True, options=()):
        self.log = open(self.folder / self.log_name, "ab")
        self.process = subprocess.Popen([*self.kbsd, "-c", self.folder / self.configuration, "--announce", self.announce, *options],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if ready:
            wait_until(self.is_ready, START_S, "service ready:\n" + self.log_text())
        return self

    def is_ready(self):
        assert self.process.poll() is None, "kbsd ended: " + self.log_text()
        return self.announce.exists() and self.lanes_ready()

    def lanes_ready(self):
        config = (self.folder / "kbs.toml").read_text()
        lanes = int(re.search(r"^lanes = (\d+)", config, re.M).group(1))
        judges = [r for r in self.roles() if r["role"] == "kbs-judge"]
        return len(judges) >= lanes + 1

    def state(self):
        return json.loads(self.announce.read_text())

    def roles(self):
        return self.state()["roles"]

    def pids(self, role):
        return [r["pid"] for r in self.roles() if r["role"] == role]

    @property
    def guest_url(self):
        return self.state()["guest"][0]

    @property
    def plain_url(self):
        return self.state()["guest_plain"][0]

    @property
    def admin_url(self):
        return self.state()["admin"][0]

    def log_text(self):
        return (self.folder / self.log_name).read_text()

    def stop(self):
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        self.process = None
        self.log.close()
        return status

    def kill_all(self):
        """The whole service in one moment, as if the machine had stopped."""
        pids = [r["pid"] for r in self.roles()]
        self.process.kill()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(30)
        self.process = None
        self.log.close()
        self.announce.unlink()
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 30, "all roles gone")

    def admin(self, *argv, check=True, **kwargs):
        return run(BIN / "kbs-admin", "--profile", self.folder / "admin" / "profile.json", "--url", self.admin_url,
                   *argv, check=check, **kwargs)

    def admin_json(self, *argv):
        return json.loads(self.admin("--json", *argv).stdout)

    def policy_file(self, policy=None):
        path = self.folder / "policy.json"
        path.write_text(json.dumps(policy or ALLOW_SAMPLE))
        return path

    def generate(self, path, *options, policy=True):
        extra = ["--policy", self.policy_file()] if policy else []
        return self.admin_json("key", "generate", path, *extra, *options)

    def import_key(self, path, key, *options):
        key_file = self.folder / "import.key"
        key_file.write_bytes(key)
        try:
            return self.admin_json("key", "import", path, "--key-file", key_file, "--policy", self.policy_file(),
                                   *options)
        finally:
            key_file.unlink()

    def guest(self, *argv, check=True, url=None):
        return run(BIN / "kbs-guest", *argv, "--url", url or self.guest_url, "--ca", self.ca, check=check)

    def ledger(self):
        """The ledger's records, with the chain recomputed (docs/protocol/ledger.md)."""
        records = []
        previous = bytes(32)
        for line in self.ledger_path.read_bytes().splitlines():
            digest, text = line[:64], line[65:]
            previous = hashlib.sha256(previous + text).digest()
            assert digest.decode() == previous.hex(), "the chain is broken"
            records.append(json.loads(text))
        assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
        return records

    def records(self, kind):
        return [r for r in self.ledger() if r["kind"] == kind]


@contextlib.contextmanager
def alone(name, token, lanes=2):
    """A service for a program of its own: in a folder that goes with it, and what it logged last if the program fails."""
    with tempfile.TemporaryDirectory(prefix=f"kbs-{name}-") as folder:
        service = Service(pathlib.Path(folder) / token, token, lanes)
        try:
            yield service
        except BaseException:
            print(service.log_text()[-5000:], file=sys.stderr)
            raise
        finally:
            service.stop()
