"""What is kept for guests, through a whole service: keys that are made at a first boot and given again, and registers. Guests
are told apart by their sample evidence's svn."""
import concurrent.futures
import json
import os
import sqlite3
import stat

from kbsguest import Guest, b64u
from machine import IDENTITY, KEEPS, Machine, make
from service import ALLOW_SAMPLE, BIN, run

def tamper(service, sql, *values):
    with sqlite3.connect(service.store_path) as db:
        assert db.execute(sql, values).rowcount == 1


def verified(service):
    """The ledger agrees with itself: every order has its deed, of the kind that it should have."""
    return run(BIN / "kbs-admin", "audit", "verify", service.ledger_path).stdout


def test_first_boots(service):
    for alg in ("P-384", "AES"):
        path = "default/nek/" + alg.lower()
        kid = path + "/v1"
        make(service, path, alg, KEEPS)
        first = Machine(service, "a")
        answer = first.provision(path, bytes=48)
        assert answer.status == 200 and answer.json()["created"], answer.body
        key = first.opened(answer, kid)
        blob = answer.json()["nek"]
        assert len(key) == 48

        again = Machine(service, "a")
        for form in ("jose", "cose"):  # the next boots, without the disk's copy, and with it
            answer = again.provision(path, format=form)
            assert not answer.json()["created"] and answer.json()["nek"] == blob
            assert again.opened(answer, kid) == key
        assert again.rewrapped(blob, kid)[1] == key

        other = Machine(service, "b")
        answer = other.provision(path)
        assert answer.json()["created"] and other.opened(answer, kid) != key
        assert other.post("key/rewrap", {"recipient": blob}).status == 403

        # many first boots of one guest at once: one key, and exactly one of them made it
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            machines = [Machine(service, "c") for _ in range(6)]
            answers = list(pool.map(lambda m: m.provision(path), machines))
        assert [a.status for a in answers] == [200] * 6
        assert len({m.opened(a, kid) for m, a in zip(machines, answers)}) == 1
        assert sum(a.json()["created"] for a in answers) == 1

        # another version of the key: who was here gets what he had, who is new is wrapped to the new one
        service.admin("key", "rotate", path)
        answer = again.provision(path)
        assert not answer.json()["created"] and again.opened(answer, kid) == key
        fourth = Machine(service, "d")
        fourth.opened(fourth.provision(path), path + "/v2")
        denied = Machine(service, "e").provision(path)
        assert denied.status == 403 and "quota" in denied.json()["detail"]

        # a row of the store that this token did not write: another's blob, for whom it does not say
        tamper(service, "UPDATE provision SET mark = zeroblob(32) WHERE blob = ?", json.dumps(blob, separators=(",", ":")))
        assert again.provision(path).status == 500
        assert "not as this token wrote it" in service.records("release-failed")[-1]["reason"]
    releases = [r for r in service.records("release") if "provision" in r]
    deeds = {d["order"]: d["op"] for d in service.records("deed") if "order" in d}
    assert {deeds[r["order"]] for r in releases if r["provision"] == "now"} == {"provision"}
    assert {deeds[r["order"]] for r in releases if r["provision"] == "before"} == {"reprovision"}
    assert "quota" in service.records("release-denied")[-1]["reason"]
    verified(service)


def test_what_is_not_provisioned(soft):
    service = soft
    make(service, "default/nek/plain", "P-256", ALLOW_SAMPLE)
    make(service, "default/nek/once", "P-256", {**ALLOW_SAMPLE, "provision": {**IDENTITY, "once": True}})
    make(service, "default/nek/chip", "P-256", {**ALLOW_SAMPLE, "provision": {"identity": ["chip-id"], "quota": 1}})
    make(service, "default/nek/rsa", "RSA", KEEPS)
    service.generate("default/disk/vm1")
    guest = Machine(service, "a")

    def refused(path, status, text, **options):
        answer = guest.provision(path, **options)
        assert answer.status == status and text in answer.json()["detail"], answer.body

    refused("default/nek/plain", 403, 'no "provision"')
    refused("default/nek/chip", 403, "has no chip-id")
    refused("default/nek/rsa", 403, "RSA")
    refused("default/disk/vm1", 403, "purpose")
    refused("default/nek/none", 404, "no such key")
    refused("default/nek/once", 400, "bytes", bytes=20)
    refused("default/nek/once", 400, "format", format="xml")
    assert guest.provision("default/nek/once").status == 200
    refused("default/nek/once", 409, "once")
    stranger = Guest(service.guest_url, service.ca)
    assert stranger.http.request("POST", "/kbs/v0/key/provision", '{"key":"default/nek/once"}',
                                 {"Content-Type": "application/json"}).status == 401
    for terms in ({"identity": [], "quota": 1}, {"identity": ["measurement"]}, {"identity": ["svn"], "quota": 1},
                  {"identity": ["measurement"] * 2, "quota": 1}, {"identity": ["measurement"], "quota": 0}):
        wrong = service.policy_file({**ALLOW_SAMPLE, "provision": terms})
        assert service.admin("key", "policy", "default/nek/once", "--policy", wrong, check=False).returncode == 1


def test_registers(service):
    path = "default/nek/k"
    make(service, path, "P-256", KEEPS)
    guest, other = Machine(service, "a"), Machine(service, "b")
    assert guest.read(path).status == 404
    assert guest.register(path, 0, 1).status == 409  # there is none yet
    answer = guest.register(path, None, 7, b"first")
    assert answer.status == 200, answer.body
    assert guest.read(path).json() == {"value": 7, "digest": b64u(b"first")}
    assert other.read(path).status == 404
    for expected, value in ((None, 8), (6, 8), (7, 7), (7, 3)):
        answer = guest.register(path, expected, value)
        assert answer.status == 409 and "is at 7" in answer.json()["detail"]
    assert guest.register(path, 7, 9, b"n" * 65).status == 400
    assert guest.register(path, 7, -1).status == 400

    machines = [Machine(service, "a") for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda m: m.register(path, 7, 8, b"second").status, machines))
    assert sorted(answers) == [200, 409, 409, 409]
    assert other.register(path, None, 1).status == 200
    denied = Machine(service, "c").register(path, None, 1)
    assert denied.status == 403 and "quota" in denied.json()["detail"]

    # another value, or another guest's, is not as the token wrote it
    tamper(service, "UPDATE register SET value = 5 WHERE value = ?", 8)
    assert guest.read(path).status == 500
    assert guest.register(path, 5, 6).status == 500
    for kind in ("register-denied", "register-failed"):
        assert "not as this token wrote it" in service.records(kind)[-1]["reason"]
    assert guest.read("default/nek/none").status == 404
    service.generate("default/disk/vm1")
    assert guest.read("default/disk/vm1").status == 403  # its policy keeps nothing
    verified(service)


def test_a_guest_is_forgotten(soft):
    service = soft
    path = "default/nek/once"
    make(service, path, "P-256", {**KEEPS, "provision": {"identity": ["measurement"], "quota": 1, "once": True}})
    guest = Machine(service, "a")
    first = guest.provision(path).json()
    assert guest.register(path, None, 5).status == 200
    assert guest.provision(path).status == 409 and Machine(service, "b").provision(path).status == 403
    kept = service.admin_json("kept", "list", path)["kept"]
    assert [(k["version"], k["value"]) for k in kept] == [(1, 5)]
    assert kept[0]["identity"] in service.admin("kept", "list", path).stdout

    assert service.admin("kept", "forget", path, "04" * 33, check=False).returncode == 5
    assert service.admin("kept", "forget", path, "nobody", check=False).returncode == 1
    service.admin("kept", "forget", path, kept[0]["identity"])
    assert service.admin_json("kept", "list", path)["kept"] == []
    again = guest.provision(path).json()
    assert again["created"] and again["nek"] != first["nek"] and guest.read(path).status == 404
    guest.rewrapped(first["nek"], path + "/v1")  # who has his blob has his key
    phases = [(r["phase"], r["epoch"]) for r in service.records("kept-forget")]
    assert phases == [("intent", phases[0][1]), ("outcome", phases[0][1])]
    assert {r["identity"] for r in service.records("kept-forget") if "identity" in r} == {kept[0]["identity"]}
    verified(service)


def test_kbs_guest_does_it_all(soft, tmp_path):
    service = soft
    path = "default/nek/k"
    make(service, path, "P-256", KEEPS)
    nek, key = tmp_path / "nek", tmp_path / "key"
    said = service.guest("--json", check=False)
    assert said.returncode == 2
    first = json.loads(service.guest("provision", path, "--nek-out", nek, "--out", key, "--json").stdout)
    again = json.loads(service.guest("provision", path, "--cose", "--json").stdout)
    assert (first["provisioned"], again["provisioned"]) == ("now", "before") and first["kcv"] == again["kcv"]
    assert stat.S_IMODE(nek.stat().st_mode) == 0o600

    def by_fd(*argv):
        r, w = os.pipe()
        server = ["--url", service.guest_url, "--ca", service.ca]
        run(BIN / "kbs-guest", *argv, "--out-fd", w, *server, pass_fds=[w])
        os.close(w)
        with os.fdopen(r, "rb") as f:
            return f.read()

    assert by_fd("provision", path) == key.read_bytes() == by_fd("rewrap", nek)
    with open(tmp_path / "plain", "wb") as f:
        refused = run(BIN / "kbs-guest", "rewrap", nek, "--out-fd", f.fileno(), "--url", service.guest_url, check=False,
                      pass_fds=[f.fileno()])
    assert refused.returncode == 2 and "no pipe" in refused.stderr and (tmp_path / "plain").read_bytes() == b""

    assert service.guest("register", "get", path, check=False).returncode == 5
    assert service.guest("register", "set", path, "--expected", "none", "--value", "1", "--digest", "ab" * 32).returncode == 0
    shown = json.loads(service.guest("register", "get", path, "--json").stdout)
    assert shown == {"value": 1, "digest": "ab" * 32}
    assert service.guest("register", "set", path, "--expected", "2", "--value", "3", check=False).returncode == 6
    assert service.guest("register", "raise", path, check=False).returncode == 2
