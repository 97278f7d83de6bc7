"""What code that runs in a role can reach. Each attempt is made inside a real role that serves (hostile.c), confined as
it is shipped, with one user for all roles and with one for each; and every attempt is also made without confinement,
where it must succeed: a test that cannot see an escape proves nothing.

Run with -s (or read the report of a failure) to see what came of each attempt."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from kbsguest import Http  # noqa: E402
from service import BIN, Service, run, wait_until  # noqa: E402
from service import ROLES as NEEDED  # noqa: E402

TESTS = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests" / "bin"
USERS = {"front": 61001, "judge": 61002, "token": 61003, "audit": 61004, "policy": 61005, "fetch": 61006}
ROLES = (*NEEDED, "kbs-fetch")
LIST_MAX = {"kbs-fetch": 50}  # with a network; others:
LIST_MAX_OTHERS = 45

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users, and /proc of processes that are not dumpable")


class Hostile(Service):
    """A service in which one role is hostile. In a folder that other users can pass through."""

    def __init__(self, role, own_users, bare=False, token="softhsm"):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="kbs-escape-"))
        self.base.chmod(0o711)
        super().__init__(self.base / "service", token, lanes=1)
        self.role, self.own_users = role, own_users
        self.libexec = self.base / "libexec"
        self.libexec.mkdir()
        for name in ROLES:
            source = TESTS / f"{name}-hostile" if name == role else BIN / name
            shutil.copy(source, self.libexec / name)
            (self.libexec / name).chmod(0o755)
        self.libexec.chmod(0o755)
        self.orders = self.libexec / "orders"
        self.orders.write_bytes(b"bare".ljust(16) if bare else b"confined".ljust(16))
        self.orders.chmod(0o644)
        (self.folder / "fetch").mkdir(mode=0o700)
        with open(self.folder / "kbs.toml", "a") as config:
            config.write('\n[fetch]\ncache = "fetch"\n[[fetch.endpoint]]\nname = "none"\nurl = "http://127.0.0.1:1"\n')
        if own_users:
            self.hand_out()
        self.add_plain_listener()

    def hand_out(self):
        with open(self.folder / "kbs.toml", "a") as config:
            config.write("\n[users]\n" + "".join(f'{role} = "{uid}"\n' for role, uid in USERS.items()))
        for name, uid in (("token", USERS["token"]), ("store", USERS["judge"]), ("fetch", USERS["fetch"])):
            for path in [self.folder / name, *(self.folder / name).rglob("*")]:
                os.chown(path, uid, uid)
        self.folder.chmod(0o711)

    def start(self, ready=True, wrapper=()):
        self.log = open(self.folder / "kbsd.log", "ab")
        self.process = subprocess.Popen(
            [*wrapper, TESTS / "kbsd-escape", "-c", self.folder / "kbs.toml", "--libexec", self.libexec, "--announce",
             self.announce], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if ready:
            wait_until(self.is_ready, 120, "service ready")
        return self

    def works(self):
        """Whether all roles are up and an answer comes from the judge."""
        return self.is_ready() and set(ROLES) == {r["role"] for r in self.roles()} and self.serves()

    def serves(self):
        try:
            return Http(self.plain_url).request("POST", "/kbs/v0/auth", b'{"version":"0.4.0","tee":"sample",'
                                                b'"extra-params":{}}').status == 200
        except OSError:
            return False

    def attempt(self, name, text="0", number=0):
        """What came of it: "succeeded", "refused ERRNO" or "killed SIGNAL"."""
        # The last one: the admin front and lane have the same walls, and serves() asks the guests'.
        pid = self.pids(self.role)[-1]
        with open(self.orders, "r+b") as orders:
            orders.truncate(16)
        # The process reads on from where it is: pad up to there.
        position = int(re.search(r"pos:\s*(\d+)", open(f"/proc/{pid}/fdinfo/50").read()).group(1))
        with open(self.orders, "r+b") as orders:
            orders.seek(position)
            orders.write(f"{name} {text} {number}\n".encode())
        begin = len(self.log_text())
        os.kill(pid, signal.SIGUSR1)

        def outcome():
            log = self.log_text()[begin:]
            done = re.search(rf"^escape: {name} (succeeded|refused \d+)$", log, re.M)
            died = re.search(rf"event=role-died .*child={pid} status=-?\d+ signal=(\d+)", log)
            return done.group(1) if done else f"killed {died.group(1)}" if died else None

        result = wait_until(outcome, 30, f"outcome of {name}")
        assert f"escape: {name} tried" in self.log_text()[begin:] or result == "succeeded", "died before the attempt"
        if result.startswith("killed") or name == "execve":
            wait_until(lambda: pid not in self.pids(self.role) and self.works(), 60, "the role is back")
        return result

    def attempts(self):
        """Every attempt with its arguments, made when it is due: processes come and go."""
        def pid(role):
            return self.pids(role)[0]

        def victim():
            return pid("kbs-token" if self.role != "kbs-token" else "kbs-judge")

        def address(of):
            maps = open(f"/proc/{of}/maps").read()
            return int(re.search(r"^([0-9a-f]+)-[0-9a-f]+ rw", maps, re.M).group(1), 16)

        port = self.listening.getsockname()[1]
        other = "token" if self.role != "kbs-token" else "store"
        files = {"token": next(p for p in (self.folder / "token").rglob("*") if p.is_file()),
                 "store": self.folder / "store" / "store.db"}
        return [
            ("open PIN file", lambda: ("open", self.folder / "pin")),
            ("open TLS key", lambda: ("open", self.folder / "tls" / "key.pem")),
            (f"open {other} folder", lambda: ("open", self.folder / other)),
            (f"open file in {other} folder", lambda: ("open", files[other])),
            ("write beside its folders", lambda: ("write", self.folder / "planted")),
            ("write to /tmp", lambda: ("write", self.base / "planted")),
            ("socket", lambda: ("socket",)),
            ("connect", lambda: ("connect", port)),
            ("bind", lambda: ("bind",)),
            ("execve", lambda: ("execve",)),
            ("fork", lambda: ("fork",)),
            ("ptrace kbsd", lambda: ("ptrace", self.state()["pid"])),
            ("ptrace another role", lambda: ("ptrace", victim())),
            ("/proc/PID/mem of another role", lambda: ("open", f"/proc/{victim()}/mem")),
            ("process_vm_readv another role", lambda: ("vm_read", victim(), address(victim()))),
            ("/proc/PID/fd of another role", lambda: ("proc_fd", f"/proc/{victim()}/fd/3")),
            ("pidfd_getfd another role", lambda: ("pidfd_getfd", victim())),
            ("kill another role", lambda: ("kill", victim())),
            ("mprotect executable", lambda: ("mprotect",)),
            ("mmap executable", lambda: ("mmap",)),
            ("become dumpable", lambda: ("dumpable",)),
            ("io_uring", lambda: ("io_uring",)),
        ]

    def run_all(self, only=None):
        results = {}
        print(f"\n{self.role}, {'a user per role' if self.own_users else 'one user for all'}:")
        for what, arguments in self.attempts():
            if only is None or what in only:
                results[what] = self.attempt(*arguments())
                print(f"  {what:34} {describe(results[what])}")
        return results

    def __enter__(self):
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen()
        return self.start()

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.listening.close()
            print((self.folder / "kbsd.log").read_text()[-6000:], file=sys.stderr)
            shutil.rmtree(self.base)


def describe(result):
    kind, _, number = result.partition(" ")
    if kind == "refused":
        return f"refused ({os.strerror(int(number))})"
    if kind == "killed":
        return f"killed ({signal.Signals(int(number)).name})"
    return kind


def stopped(result):
    return result.startswith("refused") or result == f"killed {int(signal.SIGSYS)}"


OWN_USERS = [pytest.param(False, id="one-user"), pytest.param(True, id="own-users", marks=needs_root)]


@pytest.mark.parametrize("own_users", OWN_USERS)
@pytest.mark.parametrize("role", ROLES)
def test_no_way_out(role, own_users):
    if os.geteuid() != 0:
        pytest.skip("the attempts need what only root can find out: other processes' descriptors and addresses")
    with Hostile(role, own_users) as service:
        assert service.attempt("nothing") == "succeeded"  # the hook itself is not what gets a role killed
        results = service.run_all()
        escaped = {what: result for what, result in results.items() if not stopped(result)}
        # What the courier is for, and nobody else may.
        assert escaped == ({"socket": "succeeded", "connect": "succeeded"} if role == "kbs-fetch" else {})
        assert not (service.folder / "planted").exists() and not (service.base / "planted").exists()
        assert service.works()


@needs_root
@pytest.mark.parametrize("role", ROLES)
def test_every_attempt_succeeds_without_confinement(role):
    """The detector, tested. As root with one user for all: nothing but confinement could stop an attempt."""
    with Hostile(role, own_users=False, bare=True) as service:
        results = service.run_all()
        # The front refuses itself io_uring (ENOSYS) before its event loop starts, confined or not.
        expected = {"io_uring": "refused 38"} if role == "kbs-front" else {}
        # A program in the place of a role ends its channels and so its lane, which kbsd may end before it can say so.
        if results["execve"] == f"killed {int(signal.SIGTERM)}":
            results["execve"] = "succeeded"
        assert {what: result for what, result in results.items() if result != "succeeded"} == expected


@needs_root
@pytest.mark.parametrize("role", ROLES)
def test_users_of_their_own_are_a_wall_by_themselves(role):
    """Without seccomp and Landlock, what belongs to somebody else is still out of reach."""
    elsewhere = {"open PIN file", "open TLS key", "open token folder", "open file in token folder", "open store folder",
                 "open file in store folder", "write beside its folders", "ptrace kbsd", "ptrace another role",
                 "/proc/PID/mem of another role", "process_vm_readv another role", "/proc/PID/fd of another role",
                 "pidfd_getfd another role", "kill another role"}
    with Hostile(role, own_users=True, bare=True) as service:
        results = service.run_all(only=elsewhere)
        assert len(results) == 12
        assert {what: r for what, r in results.items() if not r.startswith("refused")} == {}


@needs_root
@pytest.mark.parametrize("token", ["softhsm", "nss"])
def test_what_the_kernel_says_of_each_role(token):
    with Hostile("kbs-audit", own_users=True, token=token) as service:
        for role in service.roles():
            status = dict(line.split(":\t", 1) for line in open(f"/proc/{role['pid']}/status").read().splitlines()
                          if ":\t" in line)
            uid = str(USERS[role["role"].removeprefix("kbs-")])
            assert status["Uid"].split() == [uid] * 4 and status["Gid"].split() == [uid] * 4, role
            assert status["Groups"].split() == [] and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", role
            assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")), role
            limits = open(f"/proc/{role['pid']}/limits").read()
            if role["role"] not in ("kbs-policy", "kbs-fetch"):  # the limit would be their users'
                assert re.search(r"Max processes\s+0\s+0", limits), role
        log = service.log_text()
        assert log.count("event=confined limits=yes landlock=yes") >= len(service.roles())
        assert "not-confined" not in log


@pytest.mark.parametrize("role", ROLES)
def test_the_lists_are_short_and_printed(role):
    printed = run(BIN / role, "--print-seccomp").stdout.splitlines()
    names = [line.split()[0] for line in printed[:-1] if not line.endswith("  sanitizers")]
    assert re.match(rf"{role}: {len(names)} system calls", printed[-1])
    assert len(names) <= LIST_MAX.get(role, LIST_MAX_OTHERS) and len(set(names)) == len(names)
    never = {"execve", "execveat", "fork", "vfork", "clone", "clone3", "ptrace", "process_vm_readv", "process_vm_writev",
             "kill", "tkill", "tgkill", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "prctl", "seccomp", "bpf",
             "io_uring_setup", "io_uring_enter", "connect", "bind", "listen", "mount", "setuid", "setresuid", "keyctl",
             "memfd_create", "userfaultfd", "unshare", "setns", "rename", "link", "symlink", "chroot"}
    if role == "kbs-policy":
        assert "clone  as fork(3)" in printed
        never -= {"clone"}
    if role == "kbs-fetch":
        assert {"clone  as pthread_create(3)", "clone3  refused with ENOSYS"} < set(printed)
        never -= {"clone", "clone3", "connect", "rename"}
    if role in ("kbs-front", "kbs-audit", "kbs-policy"):
        never |= {"open", "openat", "openat2", "creat", "unlink", "unlinkat", "access", "fchmod", "fchown"}
    assert not never & set(names)
    if role != "kbs-front":
        assert not {"accept", "accept4"} & set(names)
    sockets = {"kbs-token": ["socket  refused with EACCES"], "kbs-fetch": ["socket  AF_UNIX AF_INET AF_INET6"]}
    assert [line for line in printed if re.match(r"socket\b", line)] == sockets.get(role, [])


def test_a_sign_worker_has_threads_besides():
    lane = run(BIN / "kbs-token", "--print-seccomp").stdout.splitlines()
    sign = run(BIN / "kbs-token", "--print-seccomp", "sign").stdout.splitlines()
    assert set(lane[:-1]) < set(sign[:-1])
    more = [line for line in sign[:-1] if line not in lane and not line.endswith("  sanitizers")]
    assert sorted(line.split()[0] for line in more) == ["clone", "clone3", "exit", "gettid", "rseq", "rt_sigaction",
                                                         "sched_getaffinity", "set_robust_list"]
    assert {"clone  as pthread_create(3)", "clone3  refused with ENOSYS"} < set(more)


def production(service):
    service.edit_config(r'^mode = "demo"', 'mode = "production"')
    service.edit_config(r"^allow_sample = true.*$", "allow_sample = false")


@needs_root
def test_production_serves_where_there_are_walls():
    with_users = Hostile("kbs-front", own_users=True)
    production(with_users)
    with with_users as service:
        assert service.is_ready() and "not-confined" not in service.log_text()


@needs_root
def test_production_refuses_a_kernel_without_walls():
    service = Hostile("kbs-front", own_users=True)
    production(service)
    service.start(ready=False, wrapper=[TESTS / "nowalls"])
    assert service.process.wait(60) == 79
    log = service.log_text()
    service.process = None
    shutil.rmtree(service.base)
    assert re.search(r"role=kbs-audit .*landlock: this kernel has it not", log)
    assert "event=serving" not in log


def test_the_demo_warns_on_a_kernel_without_walls():
    service = Hostile("kbs-front", own_users=False)
    service.start(wrapper=[TESTS / "nowalls"])
    log = service.log_text()
    service.stop()
    shutil.rmtree(service.base)
    for role in ROLES:
        for wall in ("landlock", "seccomp"):
            assert re.search(rf'role={role} .*event=not-confined name={role} why="{wall}: this kernel has it not', log)
    assert "landlock=no abi=0 seccomp=no" in log


@needs_root
def test_missing_users_are_an_error_in_production_and_a_warning_in_the_demo():
    service = Hostile("kbs-front", own_users=False)
    with open(service.folder / "kbs.toml", "a") as config:
        config.write('\n[users]\ntoken = "kbs-nobody-of-this-name"\n')
    service.start()
    assert re.search(r"level=warn .*event=users user=\S+ .*does not exist", service.log_text())
    service.stop()
    production(service)
    service.start(ready=False)
    assert service.process.wait(60) == 79
    service.process = None
    assert "does not exist, so that roles would run as root: refused in the production profile" in service.log_text()
    shutil.rmtree(service.base)


@needs_root
def test_the_list_of_a_new_module_can_be_found_by_logging():
    """[token] seccomp = "log": what is not on the list works and is logged by the kernel."""
    service = Hostile("kbs-token", own_users=False)
    service.edit_config(r"^uri = (.*)$", r'uri = \1\nseccomp = "log"')
    with service:
        assert re.search(r"role=kbs-token .*event=confined .*seccomp=log", service.log_text())
        assert service.attempt("mprotect") == "succeeded"
        assert service.attempt("open", service.folder / "pin").startswith("refused")  # Landlock stands
    service = Hostile("kbs-token", own_users=False)
    service.edit_config(r"^uri = (.*)$", r'uri = \1\nseccomp = "log"')
    production(service)
    done = run(BIN / "kbsd", "-c", service.folder / "kbs.toml", "--check-config", check=False)
    assert done.returncode == 2 and "keeps nothing out" in done.stderr
    shutil.rmtree(service.base)


@needs_root
@pytest.mark.parametrize("kbsd_user", [0, 61250], ids=["kbsd-is-root", "kbsd-is-a-user"])
@pytest.mark.parametrize("token", ["softhsm", "nss"])
def test_init_hands_out_the_folders(token, kbsd_user, tmp_path):
    """With the users of docs/systemd/kbs-hsm.sysusers, in a mount name space with an /etc/passwd of our own."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="kbs-users-"))
    base.chmod(0o711)
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/root:/bin/sh\n" + "".join(
        f"kbs-{role}:x:{uid}:{uid}::/:/usr/sbin/nologin\n" for role, uid in USERS.items())
        + (f"kbsd:x:{kbsd_user}:{kbsd_user}::/:/usr/sbin/nologin\n" if kbsd_user else ""))
    inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', passwd]
    if subprocess.run([*inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount name space")
    folder = base / "service"
    run(*inside, BIN / "kbs-admin", "init", folder, "--token", token, "--listen", "127.0.0.1:0", "--admin-listen",
        "127.0.0.1:0", "--production")
    assert folder.stat().st_mode & 0o777 == 0o711 and folder.stat().st_uid == kbsd_user
    assert (folder / "admin").stat().st_uid == kbsd_user
    for name, uid in (("token", USERS["token"]), ("store", USERS["judge"]), ("pin", kbsd_user), ("tls", kbsd_user),
                      ("kbs.toml", kbsd_user), ("admin/admin.pub.pem", kbsd_user), ("admin/admin.key.pem", 0),
                      ("admin/profile.json", 0), *([("so-pin", 0)] if token == "softhsm" else [])):
        for path in [folder / name, *(folder / name).rglob("*")]:
            assert path.stat().st_uid == uid and path.stat().st_mode & 0o077 in (0, 0o44), path
    libexec = base / "libexec"
    shutil.copytree(BIN, libexec, ignore=lambda _, names: [n for n in names if not n.startswith("kbs")])
    libexec.chmod(0o755)
    announce = base / "announce.json"
    log = open(base / "log", "w+")
    kbsd = subprocess.Popen([*inside, libexec / "kbsd", "-c", folder / "kbs.toml", "--announce", announce], stderr=log)
    try:
        wait_until(lambda: announce.exists() or kbsd.poll() is not None, 60, "the service")
        assert kbsd.poll() is None, (base / "log").read_text()
        for role in json.loads(announce.read_text())["roles"]:
            assert os.stat(f"/proc/{role['pid']}").st_uid in (0, *USERS.values())
            assert f"Uid:\t{USERS[role['role'].removeprefix('kbs-')]}\t" in open(f"/proc/{role['pid']}/status").read()
    finally:
        kbsd.terminate()
        kbsd.wait(60)
        shutil.rmtree(base)
