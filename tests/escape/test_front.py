"""A front that runs an attacker's code obtains no key, changes no row, reads no PIN and ends nothing but itself.

The attacker (hostile_front.c) is a real kbs-front that serves, and notes what passes, until the test tells it to turn:
then it sends whatever it likes on its lanes and on its control channel, for KBS_HOSTILE_SECONDS (8; for a longer run
KBS_HOSTILE_SECONDS=60 ctest --preset dev -R escape_front). What was sent and answered is printed with -s.

What is looked for afterwards is itself tested: a key obtained, a row changed, a mutation and a PIN must each be seen."""
import mmap
import os
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from kbsguest import Guest, Http  # noqa: E402
from service import BIN, ROLES, SANITIZED, Service, run, wait_until  # noqa: E402

BUILD = pathlib.Path(os.environ["KBS_BUILD_DIR"])
TESTS = BUILD / "tests" / "bin"
SECONDS = float(os.environ.get("KBS_HOSTILE_SECONDS", "8"))
KEY = "default/disk/vm1"
GUEST, ADMIN = 1, 2
# Refusals, and what kbs-audit and the admin lane write by themselves.
HARMLESS = {"attest-refused", "release-denied", "admin-denied", "suppressed", "head"}


class State:
    """The file through which the test and the hostile front talk (struct state of hostile_front.c)."""
    HEAD, TALLIES, TALLY, FRAMES = 64, 1024, 64, 64
    FRAME_BYTES = 16384
    BYTES = HEAD + TALLIES * TALLY + 4 * FRAMES + FRAMES * FRAME_BYTES

    def __init__(self, path):
        path.write_bytes(bytes(self.BYTES))
        path.chmod(0o666)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), self.BYTES)

    def attack(self, listener, seconds, seed):
        struct.pack_into("<QQI", self.map, 0, 0, seed, listener)
        struct.pack_into("<Q", self.map, 0, time.monotonic_ns() + int(seconds * 1e9))

    @property
    def lives(self):
        return struct.unpack_from("<I", self.map, 20)[0]

    @property
    def recorded(self):
        return struct.unpack_from("<I", self.map, 32)[0]

    def tallies(self):
        found = {}
        for i in range(self.TALLIES):
            name, count = struct.unpack_from("<56sQ", self.map, self.HEAD + i * self.TALLY)
            if name[0]:
                found[name.split(b"\0")[0].decode()] = count
        return found

    def plant(self, data):
        self.map[self.BYTES - len(data):] = data

    def close(self):
        self.map.close()
        self.file.close()


class Attacked(Service):
    """A service whose fronts turn hostile when told to. kbsd has no patience (times.c): roles are back at once."""

    def __init__(self, token="softhsm"):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="kbs-front-"))
        super().__init__(self.base / "service", token, lanes=2)
        self.libexec = self.base / "libexec"
        self.libexec.mkdir()
        for name in ROLES:
            shutil.copy(TESTS / "kbs-front-attack" if name == "kbs-front" else BIN / name, self.libexec / name)
        self.state_file = State(self.libexec / "attack.state")
        self.pin = (self.folder / "pin").read_bytes().strip()

    def start(self, ready=True):
        self.log = open(self.folder / "kbsd.log", "ab")
        self.process = subprocess.Popen(
            [TESTS / "kbsd-escape", "-c", self.folder / "kbs.toml", "--libexec", self.libexec, "--announce",
             self.announce], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if ready:
            wait_until(self.is_ready, 120, "service ready")
        return self

    def be_real(self):
        """From the next start on."""
        shutil.copy(BIN / "kbs-front", self.libexec / "kbs-front.new")
        (self.libexec / "kbs-front.new").rename(self.libexec / "kbs-front")

    def remove(self):
        self.stop()
        self.state_file.close()
        print((self.folder / "kbsd.log").read_text()[-6000:], file=sys.stderr)
        shutil.rmtree(self.base)


@pytest.fixture
def service():
    one = Attacked()
    try:
        yield one.start()
    finally:
        one.remove()


def legitimate_use(service):
    """What a day sees, all of it recorded by the fronts: keys made, released, refused, a token presented."""
    service.generate(KEY)
    service.generate("default/disk/nobody", policy=False)
    guest = Guest(service.guest_url, service.ca)
    assert guest.get_key(KEY).status == 401
    guest.handshake()
    for headers in (None, {"Authorization": "Bearer " + guest.token}):
        assert guest.get_key(KEY, headers=headers).status == 200
    assert guest.get_key("default/disk/nobody").status == 403
    stranger = Guest(service.guest_url, service.ca)
    assert stranger.auth().status == 200
    assert stranger.attest(stranger.attestation(report_data=os.urandom(48))).status == 401
    assert stranger.get_key(KEY).status == 401
    service.admin_json("key", "list")
    service.admin_json("key", "show", KEY)
    assert service.state_file.recorded >= 12


def end_sessions(service):
    """As their time would: what was recorded is worth nothing any more."""
    db = sqlite3.connect(service.store_path, timeout=30)
    db.execute("UPDATE session SET expires_s = created_s")
    db.commit()
    db.close()


def rows(service):
    """Every row that decides anything: all tables but the sessions, which anybody can have, and their numbers."""
    db = sqlite3.connect(service.store_path, timeout=30)
    try:
        tables = [name for name, in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert {"key", "epoch", "admin", "meta", "session"} <= set(tables)
        return {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}")))
                for table in tables if table not in ("session", "meta")} | {
            "schema": db.execute("SELECT * FROM meta WHERE name NOT IN ('sessions', 'challenged')").fetchall(),
            "sql": db.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()}
    finally:
        db.close()


def pin_holders(service):
    """Fronts that have the PIN in their memory or its file among their descriptors."""
    found = []
    for pid in service.pids("kbs-front"):
        try:
            names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            done = None if SANITIZED else subprocess.run(
                [TESTS / "memscan", str(pid)], input=f"pin {service.pin.hex()}\n", capture_output=True, text=True,
                timeout=60)
        except OSError:
            continue  # gone meanwhile
        if any(name.endswith("/pin") for name in names):
            found.append(f"{pid} has the file open")
        if done is not None and "found pin" in done.stdout:
            found.append(f"{pid} has the PIN in memory")
        if done is not None and done.returncode == 0:
            pin_holders.scanned += 1
    return found


pin_holders.scanned = 0


class Watch:
    """What stood before, and what an attack has achieved since: empty if nothing."""

    def __init__(self, service):
        self.service = service
        self.rows = rows(service)
        self.records = len(service.ledger())
        self.pins = []

    def look_for_the_pin(self):
        if os.geteuid() == 0:
            self.pins += pin_holders(self.service)

    def achieved(self):
        found = [f"a key: {name} {n}" for name, n in self.service.state_file.tallies().items() if " recipient " in name]
        after = rows(self.service)
        found += [f"rows of {table}" for table in self.rows.keys() | after.keys()
                  if self.rows.get(table) != after.get(table)]
        new = self.service.ledger()[self.records:]
        found += [f"a record: {r['kind']}" for r in new
                  if r["kind"] not in HARMLESS and not (r["kind"] == "attest" and r["outcome"] == "failed")]
        return sorted(set(found)) + [f"the PIN: {one}" for one in self.pins]


def attack(service, listener, seconds, seed):
    """Lets the front turn and waits for its end. Nothing else is asked of the service meanwhile."""
    watch = Watch(service)
    print(f"\nseed {seed}, {seconds} s")
    service.state_file.attack(listener, seconds, seed)
    end = time.monotonic() + seconds
    url, target = ((service.guest_url, "/kbs/v0/auth") if listener == GUEST else
                   (service.admin_url, "/kbs/v0/admin/nonce"))
    trigger = Http(url, service.ca)
    trigger.connection.timeout = 1
    try:  # the request that takes it over is never answered
        trigger.connection.request("POST" if listener == GUEST else "GET", target)
    except OSError:
        pass

    def over():
        assert service.process.poll() is None, "kbsd ended: " + service.log_text()
        watch.look_for_the_pin()
        return time.monotonic() > end
    wait_until(over, seconds + 60, "the end of the attack")
    trigger.close()
    assert service.state_file.lives > 0
    wait_until(lambda: {r["role"] for r in service.roles()} == set(ROLES) and service.lanes_ready(), 60, "all roles")
    return watch


def show(tallies):
    """Frames per kind, and what came back."""
    for side in sorted({" ".join(name.split()[:2]) for name in tallies}):
        mine = {name.split()[2:][0] + " " + " ".join(name.split()[3:]): n for name, n in tallies.items()
                if name.startswith(side + " ")}
        sent = {name[5:]: n for name, n in mine.items() if name.startswith("sent ")}
        print(f"{side}: {sum(sent.values())} frames")
        for kind in sorted(sent):
            back = [f"{name.rsplit(' ', 1)[1]} x {n}" for name, n in sorted(mine.items())
                    if name.startswith(f"answer {kind} ")]
            ended = mine.get(f"ended {kind}", 0)
            print(f"  {kind:20} {sent[kind]:6}  {', '.join(back)}{f'  lane ended x {ended}' if ended else ''}")
        statuses = {}
        for name, n in mine.items():
            if name.startswith("answer "):
                statuses[name.rsplit(" ", 1)[1]] = statuses.get(name.rsplit(" ", 1)[1], 0) + n
        if statuses:
            print("  answers per status:", ", ".join(f"{s} x {n}" for s, n in sorted(statuses.items())))


def works(service):
    guest = Guest(service.guest_url, service.ca).handshake()
    answer = guest.get_key(KEY)
    assert answer.status == 200
    guest.open_jose(answer.json(), KEY + "/v1")
    service.generate("default/disk/after")
    assert guest.get_key("default/disk/after").status == 200


@pytest.mark.parametrize("listener,side", [(GUEST, "guest"), (ADMIN, "admin")], ids=["guest", "admin"])
def test_a_hostile_front_achieves_nothing(service, listener, side):
    seed = int(os.environ.get("KBS_HOSTILE_SEED", "0")) or int.from_bytes(os.urandom(6), "big")
    legitimate_use(service)
    end_sessions(service)
    scanned = pin_holders.scanned
    watch = attack(service, listener, SECONDS, seed)
    tallies = service.state_file.tallies()
    show(tallies)
    print(f"hostile processes: {service.state_file.lives}, scanned for the PIN: {pin_holders.scanned - scanned} times")
    assert watch.achieved() == []
    sent = {name for name in tallies if name.startswith(f"{side} lane sent ") or name.startswith(f"{side} control sent ")}
    for kind in ("replay", "replayed-mutation", "other-listener", "forged-admin", "changed-field", "random-request"):
        assert f"{side} lane sent {kind}" in sent
    assert len([name for name in sent if " control " in name]) >= 5
    if not SANITIZED and os.geteuid() == 0:
        assert pin_holders.scanned > scanned
    # Whatever came back: nothing but refusals, to a front that has no session and no administrator's key. What an
    # administrator signed less than a minute ago can be read again, and so can what everybody may read.
    for name, n in tallies.items():
        if " answer " in name and name.endswith(" 200"):
            assert name.split()[3] in {"replay", "changed-field", "flipped-bytes", "forged-admin"} - (
                {"forged-admin"} if listener == GUEST else set()), name
    kbsd = service.process.pid
    assert service.process.poll() is None and service.state()["pid"] == kbsd
    service.be_real()
    assert service.stop() == 0
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "audit", "verify",
               service.ledger_path, check=False)
    assert done.returncode == 0, done.stdout
    service.start()
    works(service)
    assert not [r for r in service.ledger() if "hostile/front" in str(r)]


def test_a_key_that_is_obtained_is_seen(service):
    """The same front, the same watch, and sessions that are alive: it relays what a guest had asked for again."""
    legitimate_use(service)
    watch = attack(service, GUEST, 4, 1)
    achieved = watch.achieved()
    print(achieved)
    assert [one for one in achieved if one.startswith("a key: guest lane recipient replay")]
    assert {"a record: release", "a record: deed"} <= set(achieved)
    assert not [one for one in achieved if one.startswith("rows")]
    # And even so it went to the guest that had attested, and to nobody else.
    assert len({r["tee_key"] for r in service.records("release")}) == 1


def test_a_row_and_a_mutation_are_seen(service):
    legitimate_use(service)
    watch = Watch(service)
    assert watch.achieved() == []
    db = sqlite3.connect(service.store_path, timeout=30)
    db.execute("UPDATE key SET policy = (SELECT policy FROM key WHERE path = ?) WHERE path = 'default/disk/nobody'",
               (KEY,))
    db.commit()
    assert watch.achieved() == ["rows of key"]
    db.execute("UPDATE key SET policy = '' WHERE path = 'default/disk/nobody'")
    db.execute("CREATE TABLE planted (x INTEGER)")
    db.commit()
    assert sorted(watch.achieved()) == ["rows of planted", "rows of sql"]
    db.execute("DROP TABLE planted")
    db.commit()
    db.close()
    assert watch.achieved() == []
    service.generate("default/disk/vm2")
    assert {"rows of key", "rows of epoch", "rows of admin", "a record: key-generate", "a record: deed"} <= set(
        watch.achieved())


@pytest.mark.skipif(os.geteuid() != 0 or SANITIZED, reason="reading a role's memory needs root and no sanitizers")
def test_a_pin_in_the_front_is_seen(service):
    watch = Watch(service)
    watch.look_for_the_pin()
    assert watch.pins == []
    service.state_file.plant(service.pin)  # it is mapped there
    watch.look_for_the_pin()
    assert len(watch.pins) == 2 and "in memory" in watch.achieved()[0]
