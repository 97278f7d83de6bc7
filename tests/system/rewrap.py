#!/usr/bin/env python3
"""The rotation of a wrapping key over many wrapped keys, interrupted twice.

    rewrap.py N [softhsm|nss|mock]

Makes N wrapped keys, releases each and compares its check value with the one the token gave when it was made, rotates the
wrapping key and starts `kbs-admin wrapping-key rewrap`. A third of the way, in the middle of a batch, judge and token of
the admin lane are killed; at two thirds kbsd, and with it everything. The same command, given again, goes on each time.
Wanted: batches are moved whole or not at all, keys under either version are released meanwhile, all keys stand under the
new version at the end, the old one can be destroyed, and then every key is released again and is the one it was; and the
audit of the ledger finds nothing. Prints what it took; exit status 1 if anything was otherwise.
"""
import argparse
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from kbsadmin import Admin  # noqa: E402
from kbsguest import Guest, kcv, random_nonce  # noqa: E402
from service import ALLOW_SAMPLE, BIN, TOKENS, alone, run, wait_until  # noqa: E402

BATCH = 100  # keys per request: as many as the API allows, but at least BATCHES requests
BATCHES = 20
SAMPLE = 100  # keys that are released while the rewrap is interrupted


def say(what, begun, n, more=""):
    seconds = time.monotonic() - begun
    print(f"  {what:<22} {seconds:7.1f} s  {1000 * seconds / n:6.2f} ms each{more}", flush=True)


def make(service, n):
    """Path and check value of n new wrapped keys."""
    admin = Admin(service)
    keys = {}
    for i in range(n):
        path = f"default/wrapped/k{i}"
        answer = admin.request("POST", "/kbs/v0/admin/keys", {"path": path, "purpose": "release", "alg": "AES",
                                                              "class": "wrapped", "policy": ALLOW_SAMPLE})
        assert answer.status == 200, answer.body
        keys[path] = answer.json()["kcv"]
    admin.close()
    return keys


def release(service, keys):
    """Every one of these keys comes out, in one session (or the next, when it ends), and is the one that was made."""
    guest = Guest(service.guest_url, service.ca).handshake()
    for path, check in keys.items():
        nonce = random_nonce()
        answer = guest.get_key(path, nonce=nonce)
        if answer.status == 401:
            answer = guest.handshake().get_key(path, nonce=nonce)
        assert answer.status == 200, (path, answer.status, answer.body)
        assert kcv(guest.open_jose(answer.json(), f"{path}/v1", nonce)[1]) == check, path
    guest.close()


def sample(keys):
    """Some of them, evenly."""
    return dict(list(keys.items())[::max(1, len(keys) // SAMPLE)])


def wrapping(service):
    return service.admin_json("wrapping-key", "show")


class Rewrap:
    """A running kbs-admin, and the progress it tells."""

    def __init__(self, service, batch):
        self.process = subprocess.Popen(
            [BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--url", service.admin_url,
             "wrapping-key", "rewrap", "--limit", str(batch)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def until(self, mark):
        """Returns in the middle of a batch, once not more than `mark` keys are left."""
        last = time.monotonic()
        for line in self.process.stderr:
            now = time.monotonic()
            took, last = now - last, now
            left = re.match(r".*\b(\d+) left$", line)
            if left and int(left.group(1)) <= mark:
                select.poll().poll(500 * took)
                return
        raise AssertionError("the rewrap ended before it could be interrupted")

    def end(self):
        """(exit status, the last thing it said)"""
        said = self.process.communicate(timeout=600)[1]
        return self.process.returncode, said.strip().splitlines()[-1:]


def kill_lane(service):
    """Judge and token worker of the admin lane die; kbsd makes it anew."""
    old = [r["pid"] for r in service.roles() if r["unit"].startswith("lane-admin") and r["role"] != "kbs-policy"]
    assert len(old) == 2
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: service.lanes_ready() and not {r["pid"] for r in service.roles()} & set(old), 120, "a new admin lane")


def kill_all(service):
    """kbsd dies, its roles end by themselves, and the service is started again."""
    pids = [r["pid"] for r in service.roles()]
    service.process.kill()
    service.process.wait(60)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 60, "the end of kbsd's roles")
    service.announce.unlink()
    service.start()


def rotate(service, keys, batch):
    """The new version. Interrupted and taken up again as often as there are ways to kill."""
    old = wrapping(service)["version"]
    new = service.admin_json("wrapping-key", "rotate")["version"]
    assert wrapping(service) == {"version": new, "keys": {str(old): len(keys)}} and new > old
    moved = 0
    for nth, (what, kill) in enumerate([("judge and token", kill_lane), ("kbsd", kill_all)]):
        moving = Rewrap(service, batch)
        moving.until(len(keys) * (2 - nth) // 3)
        kill(service)
        status, why = moving.end()
        counts = wrapping(service)["keys"]
        assert status != 0 and set(counts) == {str(old), str(new)} and sum(counts.values()) == len(keys), counts
        assert counts[str(new)] > moved and counts[str(new)] % batch == 0, "a batch was done in part"
        moved = counts[str(new)]
        release(service, sample(keys))
        print(f"  {what} killed: {moved} moved, {counts[str(old)]} not; kbs-admin: {status}, {' '.join(why)}", flush=True)
    status, why = Rewrap(service, batch).end()
    assert status == 0, why
    assert wrapping(service) == {"version": new, "keys": {str(new): len(keys)}}
    return old, new


def destroy(service, old, new, n):
    service.admin("wrapping-key", "destroy", "--version", old)
    assert service.admin("wrapping-key", "destroy", "--version", old, check=False).returncode == 5  # there is none
    assert wrapping(service) == {"version": new, "keys": {str(new): n}}


def audit(service):
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               service.ledger_path, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["findings"] == [], said["findings"]
    return said


def stress(service, n):
    service.start()
    if wrapping(service)["version"] == 0:
        service.admin("wrapping-key", "rotate")
    begun = time.monotonic()
    keys = make(service, n)
    say("made", begun, n)
    begun = time.monotonic()
    release(service, keys)
    say("released and compared", begun, n)
    begun = time.monotonic()
    batch = max(1, min(BATCH, n // BATCHES))
    old, new = rotate(service, keys, batch)
    say("rotated", begun, n, f", {batch} per request, both interruptions included")
    destroy(service, old, new, n)
    begun = time.monotonic()
    release(service, keys)
    say("released and compared", begun, n)
    assert service.stop() == 0
    begun = time.monotonic()
    said = audit(service)
    print(f"  {n} keys from version {old}, destroyed, to {new}; audit verify in {time.monotonic() - begun:.1f} s: "
          f"0 findings, {len(said['notes'])} notes", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int)
    parser.add_argument("token", nargs="?", default="softhsm", choices=[*TOKENS, "mock"])
    arguments = parser.parse_args()
    assert arguments.n >= BATCHES, f"fewer than {BATCHES} keys cannot be interrupted twice"
    print(f"{arguments.token}: {arguments.n} wrapped keys", flush=True)
    with alone("rewrap", arguments.token) as service:
        stress(service, arguments.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
