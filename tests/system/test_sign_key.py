"""The key that attestation results are signed with, in a running service: a relying party that keeps the JWK set for a while
and verifies with python3-jwcrypto, and guests that never stop, see nothing of a rotation but other kids."""
import json
import threading
import time

from jwcrypto import jwk, jws

from kbsguest import Guest, Http
from service import BIN, run, wait_until

PATH = "default/disk/vm1"
AFTER_S = 3   # from the rotation until the new key signs
KEPT_S = 2    # how long the relying party keeps a set
FIRST = {"nss": "ES256", "softhsm": "ES384"}
OTHER = {"nss": "ES384", "softhsm": "ES256"}


def published(service):
    http = Http(service.guest_url, service.ca)
    keys = http.request("GET", "/.well-known/jwks.json").json()["keys"]
    http.close()
    return keys


def head(token):
    got = jws.JWS()
    got.deserialize(token)
    return got.jose_header


def verify(token, keys):
    """By the one key that the token names, and by the algorithm that this key is for."""
    key = next(k for k in keys if k["kid"] == head(token)["kid"])
    assert key["use"] == "sig" and key["kid"] == jwk.JWK(**key).thumbprint()
    got = jws.JWS()
    got.allowed_algs = [key["alg"]]
    got.deserialize(token)
    got.verify(jwk.JWK(**key))
    return key["alg"]


class Load(threading.Thread):
    """Attests, has the token verified by a relying party with a set of its own, and gets the key by it, until told to stop."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service, self.stop, self.wrong, self.kids = service, threading.Event(), [], []
        self.keys, self.fetched = [], 0

    def kept(self):
        if time.monotonic() - self.fetched > KEPT_S:
            self.fetched, self.keys = time.monotonic(), published(self.service)
        return self.keys

    def once(self):
        guest = Guest(self.service.guest_url, self.service.ca).handshake()
        verify(guest.token, self.kept())
        answer = guest.get_key(PATH, headers={"Authorization": "Bearer " + guest.token})
        assert answer.status == 200, answer.body
        guest.open_jose(answer.json(), PATH + "/v1")
        self.kids.append(head(guest.token)["kid"])
        guest.close()

    def run(self):
        while not self.stop.is_set():
            try:
                self.once()
            except Exception as failed:  # every failure counts, whatever it is
                self.wrong.append(repr(failed))


def get(service, guest):
    return guest.get_key(PATH, headers={"Authorization": "Bearer " + guest.token}).status


def listed(service):
    return {k["version"]: k for k in service.admin_json("sign-key", "list")["keys"]}


def rotate_under_load(service):
    loads = [Load(service) for _ in range(2)]
    for load in loads:
        load.start()
    wait_until(lambda: all(load.kids for load in loads), what="load running")
    service.admin("sign-key", "rotate", "--alg", OTHER[service.token], "--after", AFTER_S)
    second = listed(service)[2]
    assert second["state"] == "next" and second["alg"] == OTHER[service.token]
    assert [k["kid"] for k in published(service)] == [listed(service)[1]["kid"], second["kid"]]
    wait_until(lambda: all(load.kids[-1] == second["kid"] for load in loads), what="the second key signs")
    assert time.time() >= second["from"]
    service.admin("sign-key", "rotate", "--after", "0")
    third = listed(service)[3]
    assert third["state"] == "signing" and third["alg"] == OTHER[service.token]
    # Who keeps a set does not know it yet, as was to be expected; the service itself does.
    wait_until(lambda: all(load.kids[-1] == third["kid"] or load.wrong for load in loads), what="the third key signs")
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join(60)
        assert not [w for w in load.wrong if w != "StopIteration()"], load.wrong
        assert load.kids.index(second["kid"]) > 0
    return sum(len(load.kids) for load in loads)


def test_rotation_under_load(make_service, token):
    service = make_service(token, init=("--sign-alg", FIRST[token]))
    service.limit_auth(0)
    service.start()
    service.generate(PATH)
    old = Guest(service.guest_url, service.ca).handshake()
    before = published(service)
    assert len(before) == 1 and verify(old.token, before) == FIRST[token]
    print(f"{token}: {rotate_under_load(service)} handshakes over two rotations")

    sets = {json.dumps(published(service)) for _ in range(8)}  # by both lanes
    assert len(sets) == 1
    keys = json.loads(sets.pop())
    new = Guest(service.guest_url, service.ca).handshake()
    assert len(keys) == 3 and verify(old.token, keys) == FIRST[token] and verify(new.token, keys) == OTHER[token]
    assert get(service, old) == get(service, new) == 200

    refused = service.admin("sign-key", "destroy", "--version", "1", check=False)
    assert refused.returncode != 0 and "may live" in refused.stderr
    service.admin("sign-key", "destroy", "--version", "1", "--at-once")
    wait_until(lambda: published(service) and get(service, old) == 401, 20, "tokens of the destroyed key are refused")
    assert get(service, new) == 200
    assert [k["kid"] for k in published(service)] == [k["kid"] for k in keys[1:]]
    service.stop()
    kinds = [r["kind"] for r in service.ledger() if r["kind"].startswith("sign-key") and r.get("phase") == "outcome"]
    assert kinds == ["sign-key-generate"] * 2 + ["sign-key-destroy"]
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               service.ledger_path, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["findings"] == [], done.stdout
