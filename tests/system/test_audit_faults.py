"""A disk that fails at the n-th write, sync or cut of the ledger, for every n of a whole day in a service's life.

A day is: start, make a key, attest, release, make another key, release, drain. For n = 1, 2, ... (with sanitizers every
sixth, for one error those between the other's) and for EIO and ENOSPC, call n and all that follow fail (faulty_disk.c), until the day passes unscathed. What
must hold each time:
  - no release is answered 200 whose order and deed are not in what was synced by then;
  - /readyz is 503 while it lasts, and the log says why;
  - when the disk works again the service does, and no process was started anew;
  - a mutation is done or not done, in catalog and ledger alike, and `kbs-admin audit verify` finds nothing;
  - what a power failure would have left (the file up to the last sync) verifies too.
"""
import errno
import hashlib
import json
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest

from kbsguest import Guest, Http, b64u
from service import BIN, ROLES, SANITIZED, Service, run, wait_until

TESTS = BIN.parent / "tests" / "bin"
KEY = "default/disk/vm1"
ERRNOS = [errno.EIO, errno.ENOSPC]
CALLS_MAX = 200
# A day takes three times as long there, and which error it is our code does not ask: so not each of them at each call.
STEP = 6 if SANITIZED else 1
KILL_STEP = 18 if SANITIZED else 9


def first(error, step):
    return step // 2 * ERRNOS.index(error) if SANITIZED else 0


class Faults:
    """struct faults of faulty_disk.c."""
    FORMAT = "<8IQ"

    def __init__(self, path):
        path.write_bytes(bytes(struct.calcsize(self.FORMAT)))
        path.chmod(0o666)
        self.file = open(path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), struct.calcsize(self.FORMAT))

    def arm(self, n, error):
        struct.pack_into("<7I", self.map, 0, 0, error, 0, 0, 0, 0, 0)
        struct.pack_into("<I", self.map, 0, n)

    def heal(self):
        struct.pack_into("<I", self.map, 0, 0)

    @property
    def calls(self):
        return struct.unpack_from("<I", self.map, 8)[0]

    @property
    def failed(self):
        return struct.unpack_from("<I", self.map, 12)[0]

    @property
    def which(self):
        return struct.unpack_from("<3I", self.map, 16)

    @property
    def durable_bytes(self):
        return struct.unpack_from("<Q", self.map, 32)[0]

    def close(self):
        self.map.close()
        self.file.close()


class Faulty(Service):
    def __init__(self, folder):
        super().__init__(folder, "softhsm", lanes=1)
        self.libexec = self.folder / "libexec"
        self.libexec.mkdir()
        for name in ROLES:
            shutil.copy(TESTS / "kbs-audit-faulty" if name == "kbs-audit" else BIN / name, self.libexec / name)
        self.faults = Faults(self.libexec / "audit.faults")
        self.add_plain_listener()
        self.answered = 0  # releases answered 200, each of them found in what was durable

    def start(self, ready=True):
        self.log = open(self.folder / "kbsd.log", "ab")
        self.process = subprocess.Popen(
            [BIN / "kbsd", "-c", self.folder / "kbs.toml", "--libexec", self.libexec, "--announce", self.announce],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        if ready:
            wait_until(self.is_ready, 120, "service ready")
        return self

    def readyz(self):
        return Http(self.plain_url).request("GET", "/readyz").status

    def durable(self):
        """The records that a power failure would leave."""
        with open(self.ledger_path, "rb") as f:
            return [json.loads(line[65:]) for line in f.read(self.faults.durable_bytes).splitlines()]

    def verify(self, path=None, ended=True):
        """What `audit verify` says. In a ledger that has not come to its end a mutation may be under way."""
        done = run(BIN / "kbs-admin", "--profile", self.folder / "admin" / "profile.json", "--json", "audit", "verify",
                   path or self.ledger_path, check=False)
        said = json.loads(done.stdout)
        findings = [f for f in said["findings"] if ended or "was never finished" not in f["text"]]
        assert findings == [] and done.returncode == (1 if said["findings"] else 0), findings
        return said

    def verify_durable(self):
        copy = self.folder / "durable.log"
        with open(self.ledger_path, "rb") as f:
            copy.write_bytes(f.read(self.faults.durable_bytes))
        return self.verify(copy, ended=False)


@pytest.fixture
def service(tmp_path):
    one = Faulty(tmp_path / "service")
    try:
        yield one
    finally:
        one.faults.heal()
        one.stop()
        one.faults.close()
        print((one.folder / "kbsd.log").read_text()[-6000:])


def thumbprint(jwk):
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return b64u(hashlib.sha256(members.encode()).digest())


def unrecorded(service, guest, wanted):
    """Releases to this guest that were answered and are not durable with order and deed."""
    records = service.durable()
    mine = thumbprint(guest.jwk())
    orders = {r["order"] for r in records if r["kind"] == "release" and r["tee_key"] == mine}
    deeds = {r["order"] for r in records if r["kind"] == "deed" and r["op"] == "release" and r["outcome"] == "done"}
    return max(0, wanted - len(orders & deeds))  # one that was recorded and not answered is no harm


class Day:
    """What was asked of the service, and what it said was done."""

    def __init__(self, service, name):
        self.service, self.name = service, name
        self.made, self.refused = [], []
        self.guest = Guest(service.plain_url)
        self.released = 0

    def make(self, path):
        done = self.service.admin("key", "generate", path, "--policy", self.service.policy_file(), check=False)
        (self.made if done.returncode == 0 else self.refused).append(path)

    def release(self, path):
        if self.guest.token is None:
            return
        answer = self.guest.get_key(path)
        assert answer.status in (200, 404, 503), answer.body
        if answer.status == 200:
            self.released += 1
            self.service.answered += 1
            assert unrecorded(self.service, self.guest, self.released) == 0

    def live(self):
        self.make(f"default/{self.name}/a")
        if self.guest.auth().status == 200 and self.guest.attest().status != 200:
            assert self.guest.token is None
        self.release(KEY)
        self.make(f"default/{self.name}/b")
        self.release(f"default/{self.name}/a")
        self.guest.close()

    def check_mutations(self, names):
        """What was said to be made is there. What was refused is there as a whole, or not at all."""
        guest = Guest(self.service.plain_url).handshake()
        for path in self.made + self.refused:
            assert path in names or path in self.refused
            assert guest.get_key(path).status == (200 if path in names else 404)
        guest.close()


def pids(service):
    return sorted((r["role"], r["pid"]) for r in service.roles())


def is_back(service, knock=True):
    """Ready, and a release works. The first record that is wanted tries the disk again; so does a second of waiting."""
    if not knock and service.readyz() != 200:
        return False
    guest = Guest(service.plain_url)
    try:
        return (guest.auth().status == 200 and guest.attest().status == 200 and guest.get_key(KEY).status == 200 and
                service.readyz() == 200)
    finally:
        guest.close()


def fail_from(service, n, error):
    """A day on which the disk fails from call n on. False if it did not come to that."""
    before, log_begin = pids(service), len(service.log_text())
    day = Day(service, f"{errno.errorcode[error].lower()}-{n}")
    service.faults.arm(n, error)
    day.live()
    failed = service.faults.failed
    if failed == 0:
        service.faults.heal()
        assert len(day.made) == 2 and day.released == 2
        return False
    wait_until(lambda: service.readyz() == 503, 5, f"call {n}: not ready")
    service.verify_durable()
    said = [line for line in service.log_text()[log_begin:].splitlines() if "event=ledger-refuses" in line]
    assert re.search(rf"ledger: (write|fdatasync|cannot cut .*): {os.strerror(error)}", said[0]) and "advice=" in said[1]
    service.faults.heal()
    wait_until(lambda: is_back(service, knock=n % 8 != 0), 20, f"call {n}: service again")
    assert pids(service) == before, "nothing was started anew"
    service.generate(f"default/{day.name}/after")  # closes what was left open
    names = {key["path"] for key in service.admin_json("key", "list")["keys"]}
    day.check_mutations(names)
    return True


def test_every_write_of_a_day(service):
    service.start()
    service.generate(KEY)
    for error in ERRNOS:
        begin, n = time.monotonic(), 1 + first(error, STEP)
        while fail_from(service, n, error):
            n += STEP
            assert n < CALLS_MAX
        print(f"{errno.errorcode[error]}: calls {1 + first(error, STEP)} to {n - STEP}, every {STEP}., failed in turn, day {n} passed unscathed "
              f"({service.faults.calls} calls), {time.monotonic() - begin:.1f} s")
        assert n > 10
    said = service.verify()
    print(f"{service.answered} releases answered 200, each durable with order and deed at that moment; "
          f"{said['records']} records, {said['mutations']} mutations, no findings")
    assert service.stop() == 0
    service.verify()


def test_a_release_that_is_not_durable_is_seen(service):
    """The detector, tested: a disk that says it has synced and has not."""
    service.start()
    service.generate(KEY)
    guest = Guest(service.plain_url).handshake()
    assert guest.get_key(KEY).status == 200 and unrecorded(service, guest, 1) == 0
    service.faults.arm(1, 0)
    assert guest.get_key(KEY).status == 200 and unrecorded(service, guest, 2) == 1
    service.faults.heal()
    assert guest.get_key(KEY).status == 200 and unrecorded(service, guest, 3) == 0


@pytest.mark.parametrize("error", ERRNOS, ids=errno.errorcode.get)
def test_everything_killed_while_the_disk_fails(service, error):
    """kill -9 of all processes at once, and only what was synced comes back."""
    service.start()
    service.generate(KEY)
    killed = 0
    for n in range(2 + first(error, KILL_STEP), 40, KILL_STEP):
        day = Day(service, f"{errno.errorcode[error].lower()}-{n}")
        service.faults.arm(n, error)
        day.live()
        durable = service.faults.durable_bytes
        service.kill_all()
        killed += 1
        assert unrecorded(service, day.guest, day.released) == 0
        os.truncate(service.ledger_path, durable)  # the page cache is gone with the machine
        service.verify(ended=False)
        service.faults.heal()
        service.start()
        wait_until(lambda: is_back(service), 20, "service again")
        service.generate(f"default/{day.name}/after")
        day.check_mutations({key["path"] for key in service.admin_json("key", "list")["keys"]})
    service.stop()
    said = service.verify()
    print(f"{errno.errorcode[error]}: killed {killed} times, {service.answered} releases answered, "
          f"{said['records']} records, no findings")


@pytest.mark.parametrize("error", ERRNOS, ids=errno.errorcode.get)
def test_start_and_drain(service, error):
    """The first record of a start, and the last ones of a drain."""
    for n in (1, 2):
        service.faults.arm(n, error)
        service.start(ready=False)
        wait_until(lambda: service.faults.failed >= 2, 30, "kbs-audit to try again")
        assert not service.announce.exists() and service.process.poll() is None
        assert "ledger: " in service.log_text()
        service.faults.heal()
        wait_until(service.is_ready, 60, "service ready")
        if n == 1:
            service.generate(KEY)
        assert is_back(service)
        assert service.stop() == 0
        service.verify()
    service.start()
    assert is_back(service)
    service.faults.arm(1, error)
    assert service.stop() == 0  # nothing was promised that is not kept
    service.faults.heal()
    service.verify_durable()
    service.start()
    assert is_back(service)
    service.stop()
    service.verify()
