"""What the ledger proves, what an old or edited store opens, and what a full disk or a crash leaves behind.

KBS_KILL_ROUNDS and KBS_BAD_REQUESTS set how long the two long tests go on (12 unless told, 100 for a long run; 100,000,
and 5,000 with sanitizers).
"""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.parse

import pytest

from kbsguest import Guest, Http
from service import BIN, SANITIZED, run, wait_until

BUILD = pathlib.Path(os.environ.get("KBS_BUILD_DIR", BIN.parent))
PIPELINE = BUILD / "tests" / "bin" / "pipeline"

KILL_ROUNDS = int(os.environ.get("KBS_KILL_ROUNDS", "12"))
BAD_REQUESTS = int(os.environ.get("KBS_BAD_REQUESTS", "5000" if SANITIZED else "100000"))
KEY = "default/disk/vm1"
MIB = 1 << 20


def verify(service, *options, ledger=None):
    """(exit status, what `audit verify` says)"""
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               ledger or service.ledger_path, *options, check=False)
    return done.returncode, json.loads(done.stdout)


def texts(findings):
    return "\n".join(f["text"] for f in findings)


def release(service, path=KEY):
    """The last answer that there was: a store that is not the ledger's attests nobody either."""
    guest = Guest(service.guest_url, service.ca)
    assert guest.auth().status == 200
    answer = guest.attest()
    if answer.status == 200:
        answer = guest.get_key(path)
    guest.close()
    return answer


def rechain(lines):
    """The ledger of somebody who can write the file but has no key: a perfect chain over other records."""
    previous, out = bytes(32), b""
    for seq, line in enumerate(lines, 1):
        record = json.loads(line[65:])
        record["seq"] = seq
        text = json.dumps(record, separators=(",", ":")).encode()
        previous = hashlib.sha256(previous + text).digest()
        out += previous.hex().encode() + b" " + text + b"\n"
    return out


@pytest.fixture
def used(soft):
    """A service that has made two keys, released, refused and stopped."""
    soft.generate(KEY)
    for _ in range(3):
        assert release(soft).status == 200
    soft.generate("default/disk/nobody", policy=False)
    assert release(soft, "default/disk/nobody").status == 403
    assert release(soft).status == 200
    soft.stop()
    return soft


def test_a_sound_ledger(used):
    status, said = verify(used)
    assert status == 0 and said["ok"] and said["findings"] == []
    assert said["releases"] == 4 and said["mutations"] == 2 and said["epoch"] == 2
    assert said["heads"] == 3 and said["refusals"] >= 1  # one for each mutation, and one in the drain
    assert said["head_covers"] == said["records"] - 1 and used.ledger()[-1]["kind"] == "head"
    deeds = used.records("deed")
    assert [d["op"] for d in deeds].count("release") == 4
    for deed in deeds:
        assert deed["outcome"] == "done" and deed["token_serial"]
    orders = {r["order"] for r in used.records("release")} | {r["order"] for r in used.records("key-generate")}
    assert {d["order"] for d in deeds if d["op"] != "sign-row"} == orders
    for deed in deeds:
        if deed["op"] == "release":
            assert deed["kid"] == KEY + "/v1" and deed["rung"] == "transport" and len(deed["cka_id"]) == 40
    # Without a key, and with the key itself.
    status, said = verify(used, "--head-key", used.folder / "admin" / "head.pub.pem")
    assert status == 0 and said["heads"] == 3
    status, said = verify(used, "--head-key", used.folder / "admin" / "row.pub.pem")
    assert status == 1 and "not signed by the pinned head key" in texts(said["findings"])


@pytest.mark.parametrize("kind,gone,expected", [
    ("release", {("release", None)}, "a deed without an order"),
    ("key-generate", {("key-generate", "intent"), ("key-generate", "outcome")}, "a deed without an order"),
    ("key-generate", {("key-generate", "intent")}, "has no beginning"),
    ("key-generate", {("deed", None)}, "the token says nothing"),
])
def test_records_that_are_taken_out(used, tmp_path, kind, gone, expected):
    lines = used.ledger_path.read_bytes().splitlines()
    order = used.records(kind)[0]["order"]

    def is_gone(line):
        record = json.loads(line[65:])
        return record.get("order") == order and (record["kind"], record.get("phase")) in gone
    kept = [line for line in lines if not is_gone(line)]
    assert len(kept) == len(lines) - len(gone)
    plain = tmp_path / "plain.log"
    plain.write_bytes(b"\n".join(kept) + b"\n")
    status, said = verify(used, ledger=plain)
    assert status == 1 and "line" in texts(said["findings"])  # the chain
    plain.write_bytes(rechain(kept))
    status, said = verify(used, ledger=plain)
    assert status == 1
    assert "head" in texts(said["findings"])
    assert expected in texts(said["findings"]), said


def test_a_torn_end_and_garbage(used, tmp_path):
    whole = used.ledger_path.read_bytes()
    copy = tmp_path / "copy.log"
    copy.write_bytes(whole[:-30])
    status, said = verify(used, ledger=copy)
    assert "not written to its end" in texts(said["notes"])
    copy.write_bytes(whole + b"garbage\n")
    status, said = verify(used, ledger=copy)
    assert status == 1 and said["findings"][-1]["line"] == len(whole.splitlines()) + 1


def checkpoint(service):
    """The store as one file."""
    db = sqlite3.connect(service.store_path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def put_back(service, copy):
    owner = os.stat(service.store_path)
    for suffix in ("", "-wal", "-shm"):
        service.store_path.with_name(service.store_path.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, service.store_path)
    os.chown(service.store_path, owner.st_uid, owner.st_gid)


def test_a_restored_store(soft, tmp_path):
    soft.generate(KEY)
    soft.stop()
    checkpoint(soft)
    shutil.copy(soft.store_path, tmp_path / "old.db")
    soft.start()
    soft.generate("default/disk/vm2")
    assert release(soft).status == 200
    soft.stop()
    checkpoint(soft)
    put_back(soft, tmp_path / "old.db")
    soft.start()
    answer = release(soft)
    assert answer.status == 503 and "store is at epoch 1 and the ledger at 2" in answer.json()["detail"]
    assert soft.admin("key", "generate", "default/disk/vm3", check=False).returncode != 0
    shown = soft.admin_json("store", "accept", "--dry-run")
    assert not shown["serves"] and shown["epoch"] == 1 and shown["ledger_epoch"] == 2
    accepted = soft.admin_json("store", "accept")
    assert accepted["serves"] and accepted["epoch"] == 3
    wait_until(lambda: release(soft).status == 200, 10, "the lanes to look again")
    assert release(soft, "default/disk/vm2").status == 404
    assert soft.admin("store", "accept", check=False).returncode == 6
    soft.generate("default/disk/vm3")
    assert release(soft, "default/disk/vm3").status == 200
    soft.stop()
    status, said = verify(soft)
    assert status == 0, said["findings"]
    assert "accepted a store of epoch 1" in texts(said["notes"])


def test_what_an_administrator_is_shown_is_signed(soft):
    """With the row key of the profile: no judge is believed."""
    soft.generate(KEY)
    soft.import_key("default/disk/mine", os.urandom(32), "--floor", "transport")
    for path in (KEY, "default/disk/mine"):
        assert soft.admin_json("key", "show", path)["verified"] is True
        assert "signed as shown" in soft.admin("key", "show", path).stdout
    db = sqlite3.connect(soft.store_path, timeout=30)
    for change in ("policy = ''", "state = 2", "destroy_at_s = 5", "epoch = 2", "kcv = x'00000000'",
                   "signature = (SELECT signature FROM key WHERE path = 'default/disk/mine')"):
        before = db.execute("SELECT policy, state, destroy_at_s, epoch, kcv, signature FROM key WHERE path = ?",
                            (KEY,)).fetchone()
        db.execute(f"UPDATE key SET {change} WHERE path = ?", (KEY,))
        db.commit()
        done = soft.admin("key", "show", KEY, check=False)
        assert done.returncode != 0 and "not signed as it is shown" in done.stderr and done.stdout == "", change
        db.execute("UPDATE key SET policy = ?, state = ?, destroy_at_s = ?, epoch = ?, kcv = ?, signature = ? "
                   "WHERE path = ?", (*before, KEY))
        db.commit()
    db.close()
    assert soft.admin_json("key", "show", KEY)["verified"] is True
    # Another key than the pinned one, and none.
    profile = soft.folder / "admin" / "profile.json"
    text = profile.read_text()
    profile.write_text(text.replace("row.pub.pem", "head.pub.pem"))
    assert "not signed as it is shown" in soft.admin("key", "show", KEY, check=False).stderr
    pins = json.loads(text)
    del pins["row_key"]
    profile.write_text(json.dumps(pins))
    assert soft.admin_json("key", "show", KEY)["verified"] is False
    assert "not verified" in soft.admin("key", "show", KEY).stdout


def test_an_edited_store(soft):
    soft.generate(KEY)
    soft.generate("default/disk/strict", policy=False)
    assert release(soft).status == 200
    db = sqlite3.connect(soft.store_path, timeout=30)
    db.execute("UPDATE key SET policy = (SELECT policy FROM key WHERE path = ?) WHERE path = ?",
               (KEY, "default/disk/strict"))
    db.commit()
    answer = release(soft, "default/disk/strict")
    assert answer.status == 500 and "Internal error" in answer.json()["detail"]
    assert "not signed as it is" in soft.records("release-denied")[-1]["reason"]
    assert release(soft).status == 200  # the others are what they were
    db.execute("UPDATE key SET policy = '' WHERE path = 'default/disk/strict'")
    db.commit()
    db.close()
    assert release(soft, "default/disk/strict").status == 403


# ---- a disk that fills up ----

@pytest.fixture
def small_disk(make_service, tmp_path):
    """A service whose ledger is on a file system of 72 MiB: 8 MiB above what is kept for releases."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    service = make_service("softhsm")
    service.add_plain_listener()
    folder = service.folder / "ledger"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=72m", "none", folder], check=False).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        service.ledger_path = folder / "audit.log"
        service.limit_auth(0)  # this is about what gets past the limit
        service.edit_config(r'^(\[audit\]\n)path = .*$', rf'\1path = "{service.ledger_path}"')
        service.start()
        service.generate(KEY)
        yield service
        service.stop()
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(service, leave):
    """Takes what is free but for `leave` bytes."""
    ballast = service.ledger_path.parent / "ballast"
    stat = os.statvfs(ballast.parent)
    ballast.touch()
    size = ballast.stat().st_size + stat.f_bavail * stat.f_frsize - leave
    with open(ballast, "r+b") as f:
        os.posix_fallocate(f.fileno(), 0, size)
    return ballast


def ready(url, ca):
    answer = Http(url, ca).request("GET", "/readyz")
    return answer.status


def bad_requests(service):
    """What strangers send, by name, and the status each deserves."""
    old = Guest(service.plain_url).handshake()
    db = sqlite3.connect(service.store_path, timeout=30)
    db.execute("UPDATE session SET expires_s = created_s")
    db.commit()
    db.close()
    stranger = Guest(service.plain_url)
    assert stranger.auth().status == 200
    cookie = f"Cookie: kbs-session-id={stranger.cookie}"
    lie = json.dumps(stranger.attestation(report_data=os.urandom(48)))
    header, payload, signature = old.token.split(".")
    found = {
        "auth-bad-json": (400, "POST", "/kbs/v0/auth", [], '{"version":'),
        "auth-unknown-tee": (401, "POST", "/kbs/v0/auth", [], '{"version":"0.4.0","tee":"x","extra-params":""}'),
        "attest-bad-evidence": (401, "POST", "/kbs/v0/attest", [cookie], lie),
        "attest-bad-json": (400, "POST", "/kbs/v0/attest", [cookie], lie[:100]),
        "attest-no-cookie": (401, "POST", "/kbs/v0/attest", [], lie),
        "key-unattested": (401, "POST", "/kbs/v0/key/" + KEY, [cookie], ""),
        "key-unknown-cookie": (401, "POST", "/kbs/v0/key/" + KEY, ["Cookie: kbs-session-id=" + "A" * 32], ""),
        "key-no-session": (401, "POST", "/kbs/v0/key/" + KEY, [], ""),
        "key-expired-bearer": (401, "POST", "/kbs/v0/key/" + KEY, [f"Authorization: Bearer {old.token}"], ""),
        "key-forged-bearer": (401, "POST", "/kbs/v0/key/" + KEY,
                              [f"Authorization: Bearer {header}.{payload}.{signature[::-1]}"], ""),
        "wrong-route": (404, "GET", "/kbs/v0/nothing/here", [], ""),
        "wrong-method": (405, "DELETE", "/kbs/v0/key/" + KEY, [], ""),
        "admin-route": (404, "GET", "/kbs/v0/admin/keys", [], ""),
    }
    text = b""
    for name, (_, method, target, headers, body) in found.items():
        lines = [f"{method} {target} HTTP/1.1", "Host: x", *headers]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if method == "POST" else []
        one = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
        text += f"{name} {len(one)}\n".encode() + one
    return {name: status for name, (status, *_) in found.items()}, text


class Releases(threading.Thread):
    """An honest guest that attests and takes the key, over and over, until it is told to end."""

    def __init__(self, service):
        super().__init__()
        self.service, self.end, self.statuses, self.slowest = service, threading.Event(), [], 0.0

    def run(self):
        while not self.end.is_set():
            begin = time.monotonic()
            guest = Guest(self.service.plain_url)
            status = guest.auth().status
            status = guest.attest().status if status == 200 else status
            self.statuses.append(guest.get_key(KEY).status if status == 200 else status)
            guest.close()
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.end.wait(0.05)


def audited(service):
    """Releases of the ledger: ordered, and done by the token."""
    orders = {r["order"] for r in service.records("release")}
    deeds = {r["order"] for r in service.records("deed") if r["op"] == "release" and r["outcome"] == "done"}
    return len(orders & deeds)


def test_refusals_leave_room(small_disk):
    """With 10 MB of disk left: what strangers send costs none of it, and every release is answered and audited."""
    expected, text = bad_requests(small_disk)
    fill(small_disk, 10 * 1000 * 1000)
    before = small_disk.ledger_path.stat().st_size
    released = audited(small_disk)
    pids = {role: sorted(small_disk.pids(role)) for role in ("kbs-judge", "kbs-token", "kbs-audit")}
    releases = Releases(small_disk)
    releases.start()
    begin = time.monotonic()
    try:
        done = subprocess.run([PIPELINE, str(urllib.parse.urlsplit(small_disk.plain_url).port), "24", "16",
                               str(BAD_REQUESTS)], input=text, capture_output=True, timeout=550)
    finally:
        releases.end.set()
        releases.join(60)
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stderr
    print(f"\n{BAD_REQUESTS} bad requests in {seconds:.1f} s, {BAD_REQUESTS / seconds:.0f} per second:")
    answers = [(name, int(status), int(n)) for name, status, n in map(str.split, done.stdout.decode().splitlines())]
    for name, status, n in answers:
        print(f"  {name:20} {status} x {n}")
    assert sum(n for _, _, n in answers) == BAD_REQUESTS
    assert {(name, status) for name, status, _ in answers} == set(expected.items())
    meanwhile = len(releases.statuses)
    assert meanwhile >= 3 and set(releases.statuses) == {200}, releases.statuses
    for _ in range(5):
        assert release(small_disk).status == 200
    grown = small_disk.ledger_path.stat().st_size - before
    print(f"releases: {meanwhile} meanwhile (slowest {releases.slowest:.2f} s with its handshake), 5 after, "
          f"{audited(small_disk) - released} audited; ledger grew by {grown} bytes")
    assert audited(small_disk) == released + meanwhile + 5
    assert grown < 8192 * (meanwhile + 5)  # releases and nothing else
    assert not small_disk.records("attest-refused")
    assert {role: sorted(small_disk.pids(role)) for role in pids} == pids
    (small_disk.ledger_path.parent / "ballast").unlink()
    assert release(small_disk).status == 200
    wait_until(lambda: small_disk.records("suppressed"), 10, "the summary")
    small_disk.stop()
    status, said = verify(small_disk)
    assert status == 0, said["findings"]
    assert "were counted and not written" in texts(said["notes"])


def test_a_full_disk_and_back(small_disk):
    guest = Guest(small_disk.guest_url, small_disk.ca).handshake()
    assert guest.get_key(KEY).status == 200
    pids = {role: sorted(small_disk.pids(role)) for role in ("kbs-judge", "kbs-token", "kbs-audit")}
    ballast = fill(small_disk, 0)
    written = len(small_disk.ledger())
    refused = wait_until(lambda: next((a for a in [guest.get_key(KEY)] if a.status != 200), None), 30, "a refusal")
    assert refused.status == 503 and "the audit ledger cannot be written" in refused.json()["detail"]
    wait_until(lambda: ready(small_disk.guest_url, small_disk.ca) == 503, 10, "not ready")
    for _ in range(20):
        assert guest.get_key(KEY).status == 503
    done = small_disk.admin("key", "generate", "default/disk/later", check=False)
    assert done.returncode != 0 and len(small_disk.records("key-generate")) == 2
    released = audited(small_disk)
    ballast.unlink()
    wait_until(lambda: ready(small_disk.guest_url, small_disk.ca) == 200, 10, "ready")
    assert guest.get_key(KEY).status == 200
    assert released + 1 <= audited(small_disk) <= released + 3  # a deed of each lane may have waited for the disk
    assert {role: sorted(small_disk.pids(role)) for role in pids} == pids  # nothing was restarted
    small_disk.generate("default/disk/later2")
    small_disk.stop()
    status, said = verify(small_disk)
    assert status == 0, said["findings"]
    assert "could not be written" in texts(said["notes"]) and len(small_disk.ledger()) > written


# ---- kill -9 ----

def test_killed_anywhere(soft):
    """Whoever dies in the middle of a mutation or a release: the service comes back, and the ledger explains it."""
    soft.generate(KEY)
    chance = random.Random(20260401)
    made = 0
    for i in range(KILL_ROUNDS):
        if i % 5 == 4:  # kbsd waits longer from death to death, and begins anew with a new kbsd
            soft.stop()
            soft.start()
        role = chance.choice(["kbs-judge", "kbs-token", "kbs-audit"])
        pid = chance.choice(soft.pids(role)[-1:] * 3 + soft.pids(role))  # mostly the admin lane's
        generate = subprocess.Popen([BIN / "kbs-admin", "--profile", soft.folder / "admin" / "profile.json", "--url",
                                     soft.admin_url, "key", "generate", f"default/kill/k{i}"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            generate.wait(chance.uniform(0.0, 0.12))
        except subprocess.TimeoutExpired:
            pass
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        made += generate.wait(60) == 0

        def served():
            try:
                return release(soft).status == 200
            except (AssertionError, OSError):
                return False
        wait_until(served, 60, f"round {i}: releases again")
        wait_until(lambda: soft.admin("key", "list", check=False).returncode == 0, 60, f"round {i}: administration")
    soft.generate("default/kill/last")
    names = {k["path"] for k in soft.admin_json("key", "list")["keys"]}
    assert {KEY, "default/kill/last"} <= names and len(names) >= made + 2
    for path in sorted(names - {KEY, "default/kill/last"})[:3]:
        assert release(soft, path).status == 403  # no policy, but its row is whole
    soft.stop()
    status, said = verify(soft)
    print(json.dumps(said, indent=1))
    assert status == 0, said["findings"]
