"""kbsd against stand-in roles (fake_role.c). The test is the scheduler: every role reports to it and does nothing it
was not told to, so each case is one exact order of events. Nothing sleeps: the only waits are select() on the roles'
reports and on kbsd's log, with a limit that means failure.

Each case runs twice: kbsd forks the roles, and they are units, for which systemd-socket-activate stands in as the service
manager. Then no role is kbsd's child."""
import fcntl
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

BUILD = Path(os.environ["KBS_BUILD_DIR"])
KBSD = Path(os.environ["KBS_BIN_DIR"]) / "kbsd"
KBSD_FAST = BUILD / "tests" / "bin" / "kbsd-fast"  # with short deadlines
KBSD_AT_ONCE = BUILD / "tests" / "bin" / "kbsd-escape"  # starts again at once what was ready
KBSD_SLOW = BUILD / "tests" / "bin" / "kbsd-slow"  # the same on a slow disk
FAKE = BUILD / "tests" / "bin" / "fake_role"
ROLES = ("kbs-audit", "kbs-front", "kbs-judge", "kbs-token")
LIMIT_S = 20

CONFIG = """
[profile]
mode = "demo"
[http_server]
sockets = ["127.0.0.1:0", "[::1]:0"]
private_key = "key.pem"
certificate = "cert.pem"
plain_sockets = ["127.0.0.1:0", "unix:plain.sock"]
[admin_server]
sockets = ["127.0.0.1:0"]
private_key = "key.pem"
certificate = "cert.pem"
[admin]
keys = ["admin.pem"]
[token]
module = "module.so"
uri = "pkcs11:token=kbs"
pin_file = "pin"
env = ["A=b"]
lanes = %(lanes)d
[store]
path = "store.db"
[audit]
path = "audit.log"
"""


FETCH = """
[[fetch.endpoint]]
name = "a"
url = "http://127.0.0.1:1"
[[fetch.endpoint]]
name = "b"
url = "https://as.example"
client_certificate = "cert.pem"
client_key = "key.pem"
header_files = ["api-key", "api-key"]
[[fetch.document]]
name = "c"
url = "https://as.example/jwks"
"""


class Role:
    """One process started by kbsd, as it reported itself."""

    def __init__(self, sock, text):
        self.sock = sock
        self.facts = dict(item.split("=", 1) for item in text.split()[1:])
        self.name = self.facts["role"]
        self.pid = int(self.facts["pid"])
        self.lane = self.facts.get("lane")
        self.admin = self.facts.get("duty") == "2" or self.facts.get("listener") == "2"
        self.got = []
        self.alive = True

    def tell(self, order):
        try:
            self.sock.send(order.encode())
        except OSError:
            pass  # it is dead already, and the end of its socket says so

    def __repr__(self):
        return f"<{self.name} lane={self.lane} admin={self.admin} pid={self.pid} got={self.got}>"


class Service:
    """kbsd with stand-ins. `obey` decides what they do; the default makes everything work."""

    def __init__(self, folder, how, lanes=2):
        self.folder, self.how, self.managers, self.names = folder, how, [], list(ROLES)
        self.libexec = folder / "libexec"
        self.libexec.mkdir()
        for role in ROLES:
            shutil.copy(FAKE, self.libexec / role)
        (folder / "kbs.toml").write_text(CONFIG % {"lanes": lanes})
        (folder / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        (folder / "admin.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
        for name in ("key.pem", "module.so", "pin"):
            (folder / name).write_text("secret")
            (folder / name).chmod(0o600)
        self.announce = folder / "announce.json"
        self.roles, self.events, self.log = [], [], []
        self.obey = self.works
        self.selector = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.libexec / "test.sock"))
        self.listener.listen(64)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        self.process = None
        self.rest = b""

    def manage(self):
        """What the socket units do: whoever connects gets a process."""
        for role in self.names:
            path = self.folder / f"{role}.sock"
            manager = subprocess.Popen(["systemd-socket-activate", "--accept", "--listen", path, self.libexec / role],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            self.managers.append(manager)
            while b"Listening on" not in manager.stderr.readline():
                assert manager.poll() is None, "systemd-socket-activate ended"

    def fetches(self):
        """From the start on there is a kbs-fetch."""
        self.names.append("kbs-fetch")
        shutil.copy(FAKE, self.libexec / "kbs-fetch")
        (self.folder / "api-key").write_text("X-Api-Key: secret")
        (self.folder / "api-key").chmod(0o600)
        with open(self.folder / "kbs.toml", "a") as config:
            config.write(FETCH)
        return self

    def edit(self, old, new):
        text = (self.folder / "kbs.toml").read_text()
        assert text.count(old) == 1, old
        (self.folder / "kbs.toml").write_text(text.replace(old, new))

    def start(self, program=KBSD, **environment):
        if self.how == "units" and not self.managers:
            self.manage()
        source = ["--units", self.folder] if self.how == "units" else ["--libexec", self.libexec]
        self.process = subprocess.Popen(
            [program, "-c", self.folder / "kbs.toml", *source, "--announce", self.announce],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env={**os.environ, **environment})
        self.selector.register(self.process.stderr, selectors.EVENT_READ, self.read_log)
        return self

    def works(self, role, event):
        """Everything goes well."""
        if event == "start":
            role.tell({"migrate": "exit 0", "kbs-token": "want"}.get(role.name, "ready"))
        elif event == "got LOGIN_GRANT":
            role.tell("done 1 0")
            role.tell("ready")
        elif event in ("got DRAIN", "got EOF"):
            role.tell("exit 0")

    def accept(self, _):
        sock, _ = self.listener.accept()
        self.selector.register(sock, selectors.EVENT_READ, self.read_role)

    def read_role(self, sock):
        try:
            text = sock.recv(4096).decode()
        except ConnectionResetError:
            text = ""
        role = next((r for r in self.roles if r.sock is sock), None)
        if text.startswith("start"):
            role = Role(sock, text)
            self.roles.append(role)
            text = "start"
        elif not text:
            self.selector.unregister(sock)
            sock.close()
            if role is None:
                return
            role.alive = False
            text = "gone"
        else:
            role.got.append(text)
        self.events.append((role, text))
        self.obey(role, text)

    def read_log(self, stream):
        data = os.read(stream.fileno(), 65536)
        if not data:
            self.selector.unregister(stream)
        self.rest += data
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            print(line.decode())
            self.log.append(line.decode())

    def until(self, condition, what):
        """Handles events until the condition holds."""
        end = time.monotonic() + LIMIT_S
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"never: {what}; roles: {self.roles}"
            for key, _ in self.selector.select(left):
                key.data(key.fileobj)
        return self

    def until_log(self, pattern, count=1):
        return self.until(lambda: len(self.grep(pattern)) >= count, f"{count} x log {pattern}")

    def grep(self, pattern):
        return [line for line in self.log if re.search(pattern, line)]

    def find(self, name, lane=None, admin=False, alive=True):
        return [r for r in self.roles if r.name == name and r.alive == alive and r.admin == admin
                and (lane is None or r.lane == str(lane))]

    def announced(self):
        return json.loads(self.announce.read_text())

    def until_announced(self, condition, what):
        """The file counts only once the log says that it was written."""
        return self.until(lambda: self.grep("event=announced") and condition(self.announced()), what)

    def serving(self):
        everything = 3 + 2 * 3
        return self.until_announced(lambda a: len(a["roles"]) == everything, "all roles announced")

    def serving_without(self, *roles):
        gone = {role.pid for role in roles}
        return self.until_announced(
            lambda a: len(a["roles"]) == 9 and not gone & {r["pid"] for r in a["roles"]}, "replaced")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self):
        self.until(lambda: self.process.stderr.fileno() not in self.selector.get_map(), "kbsd ends")
        return self.process.wait(LIMIT_S)

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for role in self.roles:
            if role.alive:
                role.sock.close()  # which ends it
        if self.process:
            self.process.stderr.close()
        for manager in self.managers:
            manager.terminate()
            manager.wait(LIMIT_S)
            manager.stderr.close()
        self.listener.close()

    def died(self, role, status=-1, signal=0):
        """The line in the log that says so. What killed a unit is not kbsd's to know, nor who it was until it is ready."""
        number = rf"(?:{role.pid}|-1)" if self.how == "units" else role.pid
        return rf"event=role-died .*name={role.name} child={number} status={status} signal={0 if self.how == 'units' else signal}"


@pytest.fixture(params=["fork", "units"])
def service(request, tmp_path):
    s = Service(tmp_path, request.param)
    yield s
    s.close()


# For what only one of them can show.
forked = pytest.mark.parametrize("service", ["fork"], indirect=True)
units = pytest.mark.parametrize("service", ["units"], indirect=True)


def hold_logins(service):
    """From now on a worker that may log in does not, until it is told to: they are in the list that is returned."""
    held = []

    def obey(role, event):
        if event == "got LOGIN_GRANT":
            held.append(role)
        else:
            service.works(role, event)

    service.obey = obey
    return held


def test_start_order_and_announcement(service):
    service.start().serving()
    order = [role.name for role, event in service.events if event == "start"]
    assert order[0] == "migrate"
    assert order[1] == "kbs-audit"
    assert sorted(order[2:]) == ["kbs-front"] * 2 + ["kbs-judge"] * 3 + ["kbs-token"] * 3
    a = service.announced()
    assert a["pid"] == service.process.pid
    assert re.fullmatch(r"https://127\.0\.0\.1:[1-9]\d*", a["guest"][0])
    assert re.fullmatch(r"https://\[::1\]:[1-9]\d*", a["guest"][1])
    assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*", a["guest_plain"][0])
    assert a["guest_plain"][1] == f"unix:{service.folder}/plain.sock"
    assert re.fullmatch(r"https://127\.0\.0\.1:[1-9]\d*", a["admin"][0])
    pids = {r.pid for r in service.roles if r.name != "migrate"}
    assert {r["pid"] for r in a["roles"]} == pids
    # The kernel takes connections for a front that has not even asked for them.
    port = int(a["guest_plain"][0].rsplit(":", 1)[1])
    socket.create_connection(("127.0.0.1", port)).close()
    assert service.stop() == 0
    assert not service.announce.exists()
    assert not (service.folder / "plain.sock").exists()


def test_descriptors_environment_and_signals_of_roles(service):
    service.start().serving()
    for role in service.roles:
        assert role.facts["fds"] == ("0,1,2,3,4" if service.how == "units" else "0,1,2,3"), role
        assert (role.facts["in"], role.facts["out"]) == ("/dev/null", "/dev/null"), role
        assert role.facts["env"] == "0", role
        assert role.facts["blocked"] == "0", role
        assert role.facts["pipe_ignored"] == ("1" if service.how == "units" else "0"), role  # kbs_role_begin()
    assert service.stop() == 0


def test_what_is_attached(service):
    service.start().serving()
    (guest,), (admin,) = service.find("kbs-front"), service.find("kbs-front", admin=True)
    assert guest.facts["attach"] == "3.0,1.0,1.1,2.2,2.3"
    assert admin.facts["attach"] == "3.0,1.0"
    assert int(guest.facts["certificate"]) > 0
    for judge in service.find("kbs-judge"):
        assert judge.facts["attach"] == "5.0,6.0,7.0"
        assert judge.facts["admins"] == "0"
    assert service.find("kbs-judge", admin=True)[0].facts["admins"] == "1"
    for token in service.find("kbs-token") + service.find("kbs-token", admin=True):
        assert token.facts["attach"] == "8.0,7.0,9.0"
        assert token.facts["variables"] == "1"
    assert service.find("kbs-audit")[0].facts["attach"] == "10.0"
    # By the time the announcement is complete each front was sent its lanes and the audit two clients per lane.
    service.until(lambda: len([g for g in guest.got if g.startswith("got ATTACH 4.")]) == 2, "two lanes")
    service.until(lambda: admin.got == ["got ATTACH 4.0"], "admin lane")
    for kind, count in (("11", 2), ("12", 1), ("13", 3)):
        service.until(lambda: len([g for g in service.find("kbs-audit")[0].got if f"ATTACH {kind}." in g]) == count,
                      "clients")
    assert service.stop() == 0


COMPAT = """
[admin.authentication.bearer_jwt]
identity_providers = [{ issuer = "i", public_key_uri = "admin.pem" }, { public_key_uri = "admin.pem" }]
[admin.authorization.regex_acl]
acls = [{ role = "a", allowed_endpoints = "^/kbs/.*$" }]
[attestation_service]
allow_rsa1_5 = true
[limits]
auth_per_second = 11
sessions = 12
resource_bytes = 13
[[plugins]]
name = "resource"
policy = "policy.json"
[attest.snp]
certificates = "snp"
chip_ids = ["0123456789abcdef"]
allow_masked_chip_id = true
allow_unexplained_data = true
test_root = "%s"
minimum = [{ product = "genoa", snp = 23, firmware = "1.55.29" }]
""" % ("00" * 32)


def test_what_is_configured_arrives(service):
    """And what concerns administrators only where they are served."""
    (service.folder / "policy.json").write_text('{"a":1}')
    service.edit("[admin]\n", '[admin]\ntrustee_compat = true\nauthorization_mode = "AuthenticatedAuthorization"\n')
    service.edit("[http_server]\n", "[http_server]\npayload_request_size = 1\n")
    service.edit("[audit]\n", COMPAT + "[audit]\n")
    (service.folder / "snp/genoa").mkdir(parents=True)
    (service.folder / "snp/genoa/ark.pem").write_text("x")
    (service.folder / "snp/genoa/ark.txt").write_text("not handed over")
    service.start().serving()
    wanted = {
        "kbs-front": {"auth_per_s": "11", "body_bytes": str(1 << 20)},
        "kbs-judge": {"rsa1_5": "1", "sessions": "12", "resource_bytes": "13", "resource_policy": "7"},
        "kbs-token": {"rsa1_5": "1"},
    }
    for name, facts in wanted.items():
        for admin in (False, True):
            for role in service.find(name, admin=admin):
                assert facts.items() <= role.facts.items(), role.facts
    for admin, facts in ((False, ("0", "0", "0")), (True, ("2", "6", "2"))):
        for role in service.find("kbs-judge", admin=admin):
            assert (role.facts["admin_mode"], role.facts["providers"], role.facts["acls"]) == facts
    snp = ("snp", "snp_files", "snp_minimum", "snp_chips", "snp_allow", "snp_test_root")
    for admin, facts in ((False, ("1", "2", "2", "1", "6", "32")), (True, ("0",) * 6)):
        for role in service.find("kbs-judge", admin=admin):
            assert tuple(role.facts[name] for name in snp) == facts
    assert service.stop() == 0


def test_a_pin_that_is_a_credential(service):
    """systemd makes the file anew at every start, in a folder that nobody else can write to: so what is remembered of
    one that was refused is not the file, and stands beside the ledger."""
    credentials = service.folder / "credentials"
    credentials.mkdir()
    lock = service.folder / "token.lock"

    def obey(role, event):
        if event == "got LOGIN_GRANT":
            role.tell("done 0 1")
        elif event == "got DRAIN" and role.name == "kbs-token":
            role.tell("exit 77")
        else:
            service.works(role, event)

    def start():
        (credentials / "pin").unlink(missing_ok=True)
        (credentials / "pin").write_text("secret")
        (credentials / "pin").chmod(0o440)
        credentials.chmod(0o500)
        service.log.clear()
        service.start(CREDENTIALS_DIRECTORY=str(credentials))
        credentials.chmod(0o700)

    service.edit('pin_file = "pin"', 'pin_file = "credential:pin"')
    service.obey = obey
    start()
    service.until_log("event=pin-error")
    assert f"correct the credential and remove {lock}" in service.grep("event=pin-error")[0]
    assert len(service.grep("event=login-granted")) == 1
    assert service.stop() == 0
    start()
    service.until_log("event=pin-error")
    assert not service.grep("event=login-granted")
    assert service.stop() == 0
    lock.unlink()
    service.obey = service.works
    start()
    service.serving()
    assert service.stop() == 0
    assert not (credentials / "token.lock").exists()


def test_logins_are_one_at_a_time(service):
    granted, done = [], []

    def obey(role, event):
        if event == "got LOGIN_GRANT":
            granted.append(role)
        else:
            service.works(role, event)

    service.obey = obey
    service.start()
    for n in range(1, 4):
        service.until(lambda n=n: len(granted) == n, f"grant {n}")
        # Everybody else has asked before this one is finished, and still only one has leave.
        service.until_log("name=kbs-judge .*", 3)
        service.until(lambda: len([r for r in service.roles if r.name == "kbs-token"]) == 3, "all tokens")
        assert len(granted) == n
        done.append(granted[-1])
        granted[-1].tell("done 1 0")
        granted[-1].tell("ready")
    service.serving()
    grants = [i for i, line in enumerate(service.log) if "event=login-granted" in line]
    dones = [i for i, line in enumerate(service.log) if "event=login-done" in line]
    assert len(grants) == len(dones) == 3
    assert all(d < g for d, g in zip(dones, grants[1:]))
    assert service.stop() == 0


def test_login_waits_for_other_processes(service):
    lock = os.open(service.folder / "token.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    service.start().until_log("event=token-lock")
    service.until(lambda: len([r for r in service.roles if r.name == "kbs-token"]) == 3, "tokens")
    assert not service.grep("event=login-granted")
    fcntl.flock(lock, fcntl.LOCK_UN)
    service.serving()
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # kbsd let go of it after the last login
    os.close(lock)
    assert service.stop() == 0


@pytest.mark.parametrize("how", ["done 0 1", "exit 77"])
def test_pin_error_is_tried_once(service, how):
    def obey(role, event):
        if event == "got LOGIN_GRANT":
            role.tell(how)
            role.tell("exit 77")
        else:
            service.works(role, event)

    service.obey = obey
    service.start().until_log("event=pin-error").until_log("event=unit-failed", 3)
    # Nothing more can come: every lane is given up, and kbsd waits for its operator.
    service.until(lambda: not any(r.alive for r in service.roles if r.name in ("kbs-judge", "kbs-token")), "gone")
    assert len(service.grep("event=login-granted")) == 1
    assert len([1 for _, event in service.events if event == "got LOGIN_GRANT"]) == 1
    assert service.process.poll() is None
    # A crash of something else does not bring the lanes back.
    os.kill(service.find("kbs-audit")[0].pid, signal.SIGKILL)
    service.until_log("name=kbs-audit .*detail", 2)
    assert len(service.grep("event=role-started .*name=kbs-token")) == 3
    assert service.stop() == 0
    # Nor does another kbsd try that PIN file, whether or not the worker had time to say why it ended.
    assert (service.folder / "token.lock").read_text() != ""


def test_pin_error_later_leaves_working_lanes_alone(service):
    service.start().serving()
    victim = service.find("kbs-token", lane=0)[0]

    def obey(role, event):
        if event == "got LOGIN_GRANT":
            role.tell("done 0 1")
            role.tell("exit 77")
        else:
            service.works(role, event)

    service.obey = obey
    os.kill(victim.pid, signal.SIGKILL)
    service.until_log("event=pin-error").until_log("event=unit-failed")
    service.until_announced(lambda a: len(a["roles"]) == 3 + 4, "one lane less")
    assert len(service.find("kbs-token")) == 1 and len(service.find("kbs-token", admin=True)) == 1
    assert service.stop() == 0


@pytest.mark.parametrize("name,admin,replaced", [
    ("kbs-judge", False, 2), ("kbs-token", False, 2), ("kbs-judge", True, 2), ("kbs-token", True, 2),
    ("kbs-front", False, 5), ("kbs-front", True, 3), ("kbs-audit", False, 7)])
def test_killed_role_is_replaced(service, name, admin, replaced):
    """With what depends on it: a lane as a whole, the lanes of a front, all lanes of the audit."""
    service.start().serving()
    before = {r["pid"] for r in service.announced()["roles"]}
    os.kill(service.find(name, admin=admin)[0].pid, signal.SIGKILL)
    service.until_announced(
        lambda a: len(a["roles"]) == 9 and len({r["pid"] for r in a["roles"]} - before) == replaced, "replaced")
    assert len({r["pid"] for r in service.announced()["roles"]} & before) == 9 - replaced
    assert service.stop() == 0


def test_token_worker_may_finish_first(service):
    """It may be changing the token, so it is asked, not killed. Unless it hangs."""
    service.start().serving()
    (judge,), (token,) = service.find("kbs-judge", lane=0), service.find("kbs-token", lane=0)
    os.kill(judge.pid, signal.SIGKILL)
    service.serving_without(judge, token)
    assert token.got == ["got LOGIN_GRANT", "got DRAIN"]
    assert service.grep(service.died(token, status=0))
    (judge,), (token,) = service.find("kbs-judge", lane=1), service.find("kbs-token", lane=1)
    judge.tell("exit 78")
    service.serving_without(judge, token)
    assert "got DRAIN" not in token.got
    assert service.grep(service.died(token, signal=15))
    assert service.stop() == 0


def test_replaced_lane_is_handed_to_the_running_front(service):
    service.start().serving()
    (front,) = service.find("kbs-front")
    service.until(lambda: len(front.got) == 2, "lanes")
    os.kill(service.find("kbs-token", lane=1)[0].pid, signal.SIGKILL)
    service.until(lambda: front.got[2:] == ["got ATTACH 4.1"], "new lane 1")
    assert front.alive
    assert service.stop() == 0


def test_back_off_grows(service):
    def obey(role, event):
        if event == "start" and role.name == "kbs-front" and not role.admin:
            role.tell("exit 1")
        else:
            service.works(role, event)

    service.obey = obey
    service.start().until_log("event=unit-restart unit=front-guest-0", 5)
    waits = [int(re.search(r"in_ms=(\d+)", line)[1]) for line in service.grep("event=unit-restart unit=front-guest")]
    assert waits[:5] == [100, 200, 400, 800, 1600]
    assert service.stop() == 0


def test_restart_that_becomes_due_while_kbsd_is_busy(service):
    """The back-off (100 ms) passes while kbsd writes the announcement (300 ms): the restart must not be forgotten."""
    service.start(KBSD_SLOW).serving()
    (judge,), (token,) = service.find("kbs-judge", lane=0), service.find("kbs-token", lane=0)
    service.process.send_signal(signal.SIGSTOP)  # so that it sees both deaths at once
    for role in (judge, token):
        os.kill(role.pid, signal.SIGKILL)
    service.until(lambda: not judge.alive and not token.alive, "both are dead")
    service.process.send_signal(signal.SIGCONT)
    service.serving_without(judge, token)
    assert service.grep("event=unit-restart unit=lane-guest-0 failures=1 in_ms=100")
    assert service.stop() == 0


def test_stuck_lane_that_worked_is_replaced_at_once(service):
    service.start().serving()
    (first,) = service.find("kbs-judge", lane=0)
    first.tell("exit 78")
    service.until_log("event=unit-restart unit=lane-guest-0 failures=1 in_ms=0").serving_without(first)
    # But a token that hangs again and again gets no more logins than any other failure.
    (second,) = service.find("kbs-judge", lane=0)
    second.tell("exit 78")
    service.until_log("event=unit-restart unit=lane-guest-0 failures=2 in_ms=200").serving_without(first, second)
    assert service.stop() == 0


def leave_when_detached(service):
    """As the real ones: a front that is told to let go of a lane closes the channel to its judge, which leaves."""
    def obey(role, event):
        if event.startswith("got DETACH "):
            (judge,) = service.find("kbs-judge", lane=event.split()[-1], admin=role.admin)
            judge.tell("exit 0")
        else:
            service.works(role, event)
    service.obey = obey


@pytest.mark.parametrize("admin", [False, True])
def test_worn_lane_is_recycled(service, admin):
    """Its front lets go of it, it leaves by itself, and is back at once, however often: none of this is a failure."""
    service.start().serving()
    leave_when_detached(service)
    begun = len(service.log)
    (front,) = service.find("kbs-front", admin=admin)
    side = "admin" if admin else "guest"
    for n in range(1, 5):
        (judge,), (token,) = (service.find(name, lane=0, admin=admin) for name in ("kbs-judge", "kbs-token"))
        token.tell("worn")
        service.until_log(f"level=info .*event=unit-restart unit=lane-{side}-0 failures=0 in_ms=0", n)
        service.serving_without(judge, token)
        assert judge.got == [] and token.got == ["got LOGIN_GRANT", "got DRAIN"]
        service.until(lambda n=n: front.got[-2 * n:] == ["got DETACH 0", "got ATTACH 4.0"] * n, "let go and handed out")
    assert not [line for line in service.log[begun:] if "level=info" not in line]
    assert service.stop() == 0


def test_worn_lanes_are_recycled_one_at_a_time(service):
    service.start().serving()
    (front,), (admin_front,) = service.find("kbs-front"), service.find("kbs-front", admin=True)
    service.until(lambda: len(front.got) == 2, "lanes")
    for token in service.find("kbs-token") + service.find("kbs-token", admin=True):
        token.tell("worn")
    service.until_log("event=role-worn", 3)
    # The other front's lane is another matter.
    service.until(lambda: admin_front.got[1:] == ["got DETACH 0"], "the admin lane is recycled, too")
    service.until(lambda: len(front.got) == 3, "the first")
    first = front.got[2].split()[-1]
    second = "1" if first == "0" else "0"
    held = hold_logins(service)
    service.find("kbs-judge", lane=first)[0].tell("exit 0")
    service.until(lambda: held, "the first is back, but for its login")
    assert front.got[2:] == [f"got DETACH {first}"]
    held[0].tell("done 1 0")
    held[0].tell("ready")
    service.until(lambda: front.got[2:] == [f"got DETACH {first}", f"got ATTACH 4.{first}", f"got DETACH {second}"],
                  "then the second")
    assert service.stop() == 0


def test_worn_lane_waits_for_one_that_is_down(service):
    service.start().serving()
    (front,) = service.find("kbs-front")
    service.until(lambda: len(front.got) == 2, "lanes")
    held = hold_logins(service)
    os.kill(service.find("kbs-judge", lane=1)[0].pid, signal.SIGKILL)
    service.until(lambda: held, "lane 1 is on its way")
    service.find("kbs-token", lane=0)[0].tell("worn")
    service.until_log("event=role-worn")
    held[0].tell("done 1 0")
    held[0].tell("ready")
    service.until(lambda: front.got[2:] == ["got ATTACH 4.1", "got DETACH 0"], "only then")
    assert service.stop() == 0


def test_worn_lane_is_kept_when_nobody_may_log_in(service):
    service.start().serving()
    victim = service.find("kbs-token", lane=0)[0]

    def obey(role, event):
        role.tell("done 0 1") if event == "got LOGIN_GRANT" else service.works(role, event)

    service.obey = obey
    os.kill(victim.pid, signal.SIGKILL)
    service.until_log("event=pin-error").until_log("event=unit-failed")
    (token,) = service.find("kbs-token", lane=1)
    token.tell("worn")
    service.until_log("event=role-worn")
    assert service.stop() == 0
    assert not service.grep("event=lane-recycled")


def test_worn_is_said_once(service):
    service.start().serving()
    (token,) = service.find("kbs-token", lane=0)
    token.tell("worn")
    token.tell("worn")
    service.until_log("event=role-broken .*name=kbs-token .*sent=WORN").serving_without(token)
    assert service.stop() == 0


def test_recycled_judge_is_not_killed(service):
    """Though kbsd may hear first that its token worker is gone."""
    service.start().serving()
    (front,), (judge,), (token,) = (service.find(name, lane=lane) for name, lane in
                                    (("kbs-front", None), ("kbs-judge", 0), ("kbs-token", 0)))
    token.tell("worn")
    service.until(lambda: "got DETACH 0" in front.got, "let go")
    token.tell("exit 0")
    service.serving_without(judge, token)
    assert judge.got == ["got EOF"]
    assert service.grep("level=info .*event=unit-restart unit=lane-guest-0 failures=0 in_ms=0")
    assert service.stop() == 0


def test_detached_lane_that_fails_is_a_failure(service):
    service.start().serving()
    (front,), (judge,) = service.find("kbs-front"), service.find("kbs-judge", lane=0)
    service.find("kbs-token", lane=0)[0].tell("worn")
    service.until(lambda: "got DETACH 0" in front.got, "let go")
    os.kill(judge.pid, signal.SIGKILL)
    service.until_log("level=warn .*event=unit-restart unit=lane-guest-0 failures=1 in_ms=100").serving_without(judge)
    assert service.stop() == 0


def test_detached_lane_that_stays_is_killed(service):
    service.start(KBSD_FAST).serving()
    (judge,) = service.find("kbs-judge", lane=0)
    service.find("kbs-token", lane=0)[0].tell("worn")
    service.until_log("event=role-overdue unit=lane-guest-0 name=kbs-judge .*state=ready").serving_without(judge)
    assert service.stop() == 0


@pytest.mark.parametrize("order", ["want", "done 1 0", "ready", "worn", "garbage"])
def test_unexpected_message_ends_the_role(service, order):
    service.start().serving()
    judge = service.find("kbs-judge", lane=0)[0]
    judge.tell(order)
    service.until(lambda: not judge.alive, "judge killed").until_log("event=role-broken")
    service.until_log(service.died(judge, signal=9))
    service.serving_without(judge)
    assert service.stop() == 0


def test_worker_is_not_killed_while_it_logs_in(service):
    held = []

    def obey(role, event):
        if event == "got LOGIN_GRANT" and not held:
            held.append(role)
        else:
            service.works(role, event)

    service.obey = obey
    service.start().until(lambda: held, "first grant")
    (token,) = held
    judges = []
    service.until(lambda: judges.extend(service.find("kbs-judge", token.lane, token.admin)) or judges, "its judge")
    judge = judges[0]
    os.kill(judge.pid, signal.SIGKILL)
    service.until_log(service.died(judge, signal=9))
    service.process.send_signal(signal.SIGTERM)
    # Everything else is drained, judges and administrators included; this one is waited for, undisturbed.
    service.until(lambda: not any(r.alive for r in service.roles
                                  if r is not token and r.name in ("kbs-judge", "kbs-token", "kbs-front")), "others")
    assert token.alive and token.got == ["got LOGIN_GRANT"]
    assert service.find("kbs-audit")[0].got[-1] != "got DRAIN"
    token.tell("done 1 0")
    assert service.ended() == 0
    assert not token.alive


def test_drain_order(service):
    gone = []

    def obey(role, event):
        if event == "got DRAIN":
            gone.append(role)
        service.works(role, event)

    service.obey = obey
    service.start().serving()
    assert service.stop() == 0
    names = [role.name for role in gone]
    # The guests, each lane's judge before its token worker, then the administrators, then the ledger.
    assert names[0] == "kbs-front" and sorted(names[1:5]) == ["kbs-judge"] * 2 + ["kbs-token"] * 2
    for lane in "01":
        assert [role.name for role in gone[1:5] if role.lane == lane] == ["kbs-judge", "kbs-token"]
    assert names[5:] == ["kbs-front", "kbs-judge", "kbs-token", "kbs-audit"]
    # Nobody saw the end of its channel instead, and nobody had to be killed.
    assert not [e for e in service.events if e[1] == "got EOF"]
    assert not service.grep("event=role-overdue")


def attached(role):
    """How often it was handed a channel to kbs-fetch, before GO or after."""
    return role.facts.get("attach", "").split(",").count("16.0") + role.got.count("got ATTACH 16.0")


def those_who_fetch(service):
    return [r for r in service.roles if r.alive and r.name in ("kbs-front", "kbs-judge")]


def all_attached(service, times=1):
    (fetch,) = service.find("kbs-fetch")
    service.until(lambda: [attached(r) for r in those_who_fetch(service)] == [times] * 5, "a channel for each")
    for what, n in (("5", 2), ("8", 3)):
        service.until(lambda: sum(g.startswith(f"got ATTACH {what}.") for g in fetch.got) == n, f"{n} x {what}")
    return fetch


def test_fetch_is_configured_and_attached(service):
    service.fetches().start()
    service.until_announced(lambda a: len(a["roles"]) == 10, "all roles")
    fetch = all_attached(service)
    # A key and two header files, all of the second endpoint.
    assert fetch.facts["attach"] == "17.1,18.1,18.1"
    assert (fetch.facts["endpoints"], fetch.facts["documents"], fetch.facts["cache"]) == ("2", "1", "0")
    # Judges had it before they began.
    assert all("16.0" in judge.facts["attach"] for judge in service.roles if judge.name == "kbs-judge")
    assert {r["unit"] for r in service.announced()["roles"] if r["role"] == "kbs-fetch"} == {"fetch"}
    assert service.stop() == 0


def test_without_anything_to_fetch_there_is_none(service):
    with open(service.folder / "kbs.toml", "a") as config:
        config.write("[fetch]\n")
    service.start().serving()
    assert not service.find("kbs-fetch") and all(attached(r) == 0 for r in those_who_fetch(service))
    assert service.stop() == 0


def test_fetch_that_dies_takes_nobody_with_it(service):
    service.fetches().start()
    service.until_announced(lambda a: len(a["roles"]) == 10, "all roles")
    before = all_attached(service)
    others = those_who_fetch(service)
    os.kill(before.pid, signal.SIGKILL)
    service.until(lambda: service.find("kbs-fetch") and not before.alive, "another one")
    after = all_attached(service, times=2)
    assert after.pid != before.pid and those_who_fetch(service) == others
    # And once more, by what production would call unusable: a service that runs goes on without.
    after.tell("exit 79")
    service.until(lambda: service.find("kbs-fetch") and not after.alive, "a third one")
    all_attached(service, times=3)
    assert those_who_fetch(service) == others
    assert service.stop() == 0


def test_lanes_and_fronts_that_are_replaced_are_attached_anew(service):
    service.fetches().start()
    service.until_announced(lambda a: len(a["roles"]) == 10, "all roles")
    fetch = all_attached(service)
    (judge,) = service.find("kbs-judge", lane=1)
    os.kill(judge.pid, signal.SIGKILL)
    service.until(lambda: len(those_who_fetch(service)) == 5 and not judge.alive, "another judge")
    service.until(lambda: [attached(r) for r in those_who_fetch(service)] == [1] * 5, "which has it")
    (front,) = service.find("kbs-front", admin=True)
    os.kill(front.pid, signal.SIGKILL)
    service.until(lambda: len(those_who_fetch(service)) == 5 and not front.alive, "another front and its lane")
    service.until(lambda: [attached(r) for r in those_who_fetch(service)] == [1] * 5, "which have it")
    assert fetch.alive and service.find("kbs-fetch") == [fetch]
    assert service.stop() == 0


def test_lanes_do_not_wait_for_a_fetch_that_fails(service):
    def obey(role, event):
        if event == "start" and role.name == "kbs-fetch":
            role.tell("exit 1")
        else:
            service.works(role, event)

    service.obey = obey
    service.fetches().start().until_announced(lambda a: len(a["roles"]) == 9, "all but kbs-fetch")
    assert all(attached(r) == 0 for r in those_who_fetch(service))
    service.obey = service.works
    service.until(lambda: service.find("kbs-fetch"), "one that works")
    all_attached(service)  # while they run
    assert service.stop() == 0


def test_unusable_fetch_at_start_ends_kbsd(service):
    service.obey = lambda role, event: (role.tell("exit 79") if (role.name, event) == ("kbs-fetch", "start")
                                        else service.works(role, event))
    service.fetches().start()
    assert service.ended() == 79


def test_fetch_is_drained_after_those_who_use_it(service):
    gone = []

    def obey(role, event):
        if event == "got DRAIN":
            gone.append(role.name)
        service.works(role, event)

    service.obey = obey
    service.fetches().start().until_announced(lambda a: len(a["roles"]) == 10, "all roles")
    assert service.stop() == 0
    assert len(gone) == 10 and set(gone[-2:]) == {"kbs-fetch", "kbs-audit"}


def test_missing_fetch_is_said_at_once(service):
    service.fetches()
    if service.how == "units":
        service.manage()
        (service.folder / "kbs-fetch.sock").unlink()
    (service.libexec / "kbs-fetch").unlink()
    service.start()
    assert service.ended() == 79
    assert service.grep("is kbs-fetch.socket started" if service.how == "units" else "kbs-fetch cannot be executed")


def test_drain_waits_for_fronts(service):
    fronts = []

    def obey(role, event):
        if event == "got DRAIN" and role.name == "kbs-front":
            fronts.append(role)
        else:
            service.works(role, event)

    service.obey = obey
    service.start().serving()
    service.process.send_signal(signal.SIGTERM)
    service.until(lambda: len(fronts) == 1, "the guests' front is asked")
    assert all("got DRAIN" not in r.got for r in service.roles if r not in fronts)
    fronts[0].tell("exit 0")
    service.until(lambda: len(fronts) == 2, "and then the administrators'")
    assert all("got DRAIN" not in r.got for r in service.roles if r.admin and r not in fronts)
    fronts[1].tell("exit 0")
    assert service.ended() == 0


@pytest.mark.parametrize("role_name", ["kbs-audit", "kbs-front", "kbs-judge"])
def test_unusable_configuration_at_start_ends_kbsd(service, role_name):
    def obey(role, event):
        if event == "start" and role.name == role_name:
            role.tell("exit 79")
        else:
            service.works(role, event)

    service.obey = obey
    service.start()
    assert service.ended() == 79


def test_failed_migration_ends_kbsd(service):
    service.obey = lambda role, event: role.tell("exit 1") if role.name == "migrate" else None
    service.start()
    assert service.ended() == 79
    assert [r.name for r in service.roles] == ["migrate"]


def test_signal_during_migration(service):
    service.obey = lambda role, event: None
    service.start().until(lambda: service.roles, "migration")
    assert service.stop() in (0, 79)


def test_missing_role_is_said_at_once(service):
    if service.how == "units":
        service.manage()
        (service.folder / "kbs-token.sock").unlink()
    (service.libexec / "kbs-token").unlink()
    service.start()
    assert service.ended() == 79
    assert service.grep("is kbs-token.socket started" if service.how == "units" else "kbs-token cannot be executed")


@units
def test_a_unit_that_cannot_be_started_is_tried_again(service):
    """The manager takes the connection, fails and drops it. What is wrong is in its log, not in ours."""
    service.manage()
    (service.libexec / "kbs-token").rename(service.libexec / "kbs-token.away")
    service.start().until_log("event=unit-restart unit=lane-guest-0 failures=3")
    (service.libexec / "kbs-token.away").rename(service.libexec / "kbs-token")
    service.serving()
    assert service.stop() == 0


@units
def test_a_unit_cannot_slip_its_leash(service):
    service.start(KBSD_AT_ONCE).serving()
    for order in (*(f"slip {how}" for how in range(5)), "close"):
        judge = service.find("kbs-judge", lane=0)[0]
        judge.tell(order)
        service.serving_without(judge)
        assert "got away" not in judge.got and not judge.alive
        assert service.grep(service.died(judge))
    assert service.stop() == 0


@units
def test_a_unit_that_does_nothing_is_ended_by_its_leash(service):
    """Stopped, so that no code of it runs: as a PKCS#11 module that hangs."""
    service.start().serving()
    (judge,), (token,) = service.find("kbs-judge", lane=0), service.find("kbs-token", lane=0)
    os.kill(token.pid, signal.SIGSTOP)
    judge.tell("exit 78")
    service.serving_without(judge, token)
    assert not token.alive and token.got == ["got LOGIN_GRANT"]
    assert service.stop() == 0


@units
def test_the_end_of_kbsd_does_not_kill_a_unit_that_logs_in(service):
    held = hold_logins(service)
    service.start().until(lambda: held, "first grant")
    service.process.kill()
    service.process.wait()
    service.until(lambda: "got EOF" in held[0].got, "it sees the end of its channel, and lives")
    assert held[0].alive


def test_systemd_is_told(service, tmp_path):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(LIMIT_S)
        service.start(NOTIFY_SOCKET=str(path)).serving()
        assert notify.recv(64) == b"READY=1\n"
        assert service.stop() == 0
        assert notify.recv(64) == b"STOPPING=1\n"


def test_roles_see_the_end_of_kbsd(service):
    service.start().serving()
    service.process.kill()
    service.process.wait()
    service.until(lambda: all(r.got and r.got[-1] == "got EOF" or not r.alive
                              for r in service.roles if r.name != "migrate"), "all see it")


def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(service):
    path = service.folder / "plain.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
        service.start()
        assert service.ended() == 79
        assert service.grep("cannot listen on unix:")
    assert path.exists()
    service.start().serving()
    assert service.stop() == 0


@pytest.mark.parametrize("name", ["kbs-audit", "kbs-front", "kbs-judge", "kbs-token"])
def test_role_that_never_gets_ready_is_replaced(service, name):
    silent = []

    def obey(role, event):
        if event == "start" and role.name == name and not silent:
            silent.append(role)
        else:
            service.works(role, event)

    service.obey = obey
    service.start(KBSD_FAST).until_log(f"event=role-overdue .*name={name} .*state=starting")
    service.until_log(service.died(silent[0], signal=9))
    service.serving_without(silent[0])
    assert service.stop() == 0


def test_hung_login_is_killed_at_its_deadline_only(service):
    hung = []

    def obey(role, event):
        if event == "got LOGIN_GRANT" and not hung:
            hung.append((role, time.monotonic()))
        else:
            service.works(role, event)

    service.obey = obey
    service.start(KBSD_FAST).until(lambda: hung, "grant")
    (token, since), = hung
    token.tell("stubborn")
    service.until(lambda: not token.alive, "it is killed")
    assert time.monotonic() - since > 0.9
    assert service.grep("event=role-overdue .*name=kbs-token .*state=login")
    # nobody else while it might still be at it: the next grant comes after its death
    order = [line for line in service.grep(rf"event=login-granted|{service.died(token, signal=9)}")]
    assert "login-granted" in order[0] and all("login-granted" not in line for line in order[1:2])
    service.serving_without(token)
    assert service.stop() == 0


def test_garbage_during_a_login(service):
    """Not a reason to kill a worker that may be logging in, and not the end of its lane."""
    said = []

    def obey(role, event):
        if event == "got LOGIN_GRANT" and not said:
            said.append(role)
            role.tell("stubborn")
            role.tell("garbage")
        else:
            service.works(role, event)

    service.obey = obey
    service.start(KBSD_FAST).until(lambda: said, "grant").until_log("event=role-broken")
    (token,) = said
    service.until(lambda: not token.alive, "its end")
    # A child sees that its channel is closed; a unit keeps it, for its end to be seen by.
    assert service.how == "fork" or service.grep("event=role-overdue .*name=kbs-token .*state=login")
    service.serving_without(token)
    assert service.stop() == 0


def test_stubborn_lane_is_killed(service):
    service.start(KBSD_FAST).serving()
    (token,), (judge,) = service.find("kbs-token", lane=0), service.find("kbs-judge", lane=0)
    service.obey = lambda role, event: None if role is token else service.works(role, event)
    token.tell("stubborn")
    service.until(lambda: token.got[-1] == "got stubborn", "order obeyed")
    os.kill(judge.pid, signal.SIGKILL)
    service.until(lambda: not token.alive, "killed").serving_without(token, judge)
    assert service.grep(service.died(token, signal=9))
    assert service.stop() == 0


@forked
def test_role_that_closes_its_channel_but_stays_is_killed(service):
    service.start(KBSD_FAST).serving()
    (judge,) = service.find("kbs-judge", lane=0)
    judge.tell("close")
    service.until_log(rf"event=role-overdue .*child={judge.pid} state=ending").serving_without(judge)
    assert service.stop() == 0


def test_drain_does_not_wait_for_ever(service):
    service.start(KBSD_FAST).serving()
    service.obey = lambda role, event: None
    assert service.stop() == 0
    assert len(service.grep("event=role-overdue")) >= 2 + 1  # fronts, audit, and lanes as far as needed


def test_healthy_time_forgives(service):
    """kbsd-fast forgives as soon as a role has served, so the back-off never grows here."""
    service.start(KBSD_FAST).serving()
    for n in range(1, 4):
        (front,) = service.find("kbs-front")
        os.kill(front.pid, signal.SIGKILL)
        service.until_log("event=unit-restart unit=front-guest-0 failures=1 in_ms=100", n).serving_without(front)
    assert service.stop() == 0
