"""Resources and documents, end to end, by the paths that clients of the KBS protocol know."""
import base64
import collections
import hashlib
import http.client
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import ssl
import threading
import urllib.parse

import pytest

from kbsadmin import Admin
from kbsguest import Guest, b64u, unb64u
from service import ALLOW_SAMPLE, BIN, ROLES, SANITIZED, run, wait_until
from test_secrets import get, open_jwe

RESOURCE = "/kbs/v0/resource/"
PKCS11 = "/kbs/v0/pkcs11/resource/"
PATH = "one/two/three"
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
REGO = pathlib.Path(os.environ.get("KBS_VECTORS_DIR", SOURCE.parent / "shared" / "vectors")) / "rego"
needs_rego = pytest.mark.skipif("kbs-policy" not in ROLES, reason="kbs-policy is not built (no cargo, or no crates)")
KILLS = int(os.environ.get("KBS_RESOURCE_KILLS", "4" if SANITIZED else "6"))  # of each of the four at least one


class Resources(Admin):
    """What such clients send, signed: the service's own way of saying who asks."""

    def put(self, path, value, prefix=RESOURCE):
        return self.request("POST", prefix + path, raw=value, content_type="application/octet-stream")

    def delete(self, path, prefix=RESOURCE):
        return self.request("DELETE", prefix + path)

    def paths(self):
        answer = self.request("GET", "/kbs/v0/resource")
        assert answer.status == 200, answer.body
        return answer.json()


def expect_empty(answer):
    assert (answer.status, answer.body) == (200, b""), (answer.status, answer.body)


def allow(service, path=PATH):
    """A resource set without a configured policy is for nobody: the administrator says for whom."""
    return service.admin_json("secret", "policy", path, "--policy", service.policy_file())


def test_set_get_list_delete(service):
    admin = Resources(service)
    guest = Guest(service.guest_url, service.ca).handshake()
    values = {"one/two/three": os.urandom(16), "one/two/four": os.urandom(131072), "a/b/c": b"\0"}
    assert admin.paths() == []
    for path, value in values.items():
        expect_empty(admin.put(path, value))
        assert get(guest, path).status == 403  # nobody has said who may have it
        assert allow(service, path)["policy"] == ALLOW_SAMPLE
        assert open_jwe(guest, get(guest, path).json()) == value
    assert admin.paths() == sorted(values)
    assert admin.request("GET", "/kbs/v0/resource?limit=1&after=a/b/c").json() == ["one/two/four"]
    expect_empty(admin.delete("one/two/four"))
    assert get(guest, "one/two/four").status == 404 and admin.delete("one/two/four").status == 404
    assert admin.put(PATH, b"").status == 400 and admin.put(PATH, bytes(131073)).status == 413
    assert admin.paths() == ["a/b/c", PATH]
    assert [r["form"] for r in service.records("secret-set") if r["phase"] == "intent"] == ["plaintext"] * 3
    run(BIN / "kbs-admin", "audit", "verify", service.ledger_path)


def test_the_other_name(soft):
    admin = Resources(soft)
    expect_empty(admin.put(PATH, b"value", PKCS11))
    allow(soft)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    for prefix in (RESOURCE, PKCS11):
        answer = guest.http.request("GET", prefix + PATH, headers=guest.cookies())
        assert answer.status == 200 and open_jwe(guest, answer.json()) == b"value"
        assert guest.http.request("GET", prefix + PATH).status == 401
    expect_empty(admin.delete(PATH, PKCS11))
    assert get(guest).status == 404 and admin.paths() == []


def set_rego(admin, text):
    return admin.request("POST", "/kbs/v0/resource-policy", {"policy": b64u(text.encode())})


@pytest.mark.skipif("kbs-policy" in ROLES, reason="there is a kbs-policy, see below")
def test_a_resource_policy_closes_without_kbs_policy(soft):
    admin = Resources(soft)
    expect_empty(admin.put(PATH, b"value"))
    allow(soft)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert get(guest, PATH).status == 200
    expect_empty(set_rego(admin, "package policy\n\ndefault allow = true\n"))
    for prefix in (RESOURCE, PKCS11):
        answer = guest.http.request("GET", prefix + PATH, headers=guest.cookies())
        assert answer.status == 501 and "Rego" in answer.json()["detail"]
        assert guest.http.request("GET", prefix + PATH).status == 401
    expect_empty(set_rego(admin, ""))
    assert open_jwe(guest, get(guest, PATH).json()) == b"value"


@needs_rego
def test_a_resource_policy_decides(soft):
    """With a resource's own policy both must allow; without one it decides alone; taken back, nobody does."""
    admin = Resources(soft)
    expect_empty(admin.put(PATH, b"value"))
    expect_empty(admin.put("other/two/three", b"other"))
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert [get(guest, p).status for p in (PATH, "other/two/three")] == [403, 403]
    rego = ('package policy\nimport rego.v1\ndefault allow = false\nallow if {\n  data.plugin in {"resource", "pkcs11"}\n'
            '  data["resource-path"] == ["one", "two", "three"]\n  data.method == "GET"\n  count(data.query) == 0\n}\n')
    expect_empty(set_rego(admin, rego))
    assert admin.request("GET", "/kbs/v0/resource-policy").json() == ["resource-policy"]
    for prefix in (RESOURCE, PKCS11):
        answer = guest.http.request("GET", prefix + PATH, headers=guest.cookies())
        assert answer.status == 200 and open_jwe(guest, answer.json()) == b"value"
        assert guest.http.request("GET", prefix + PATH).status == 401
    answer = get(guest, "other/two/three")
    assert answer.status == 403 and "allow is false" in answer.json()["detail"]
    allow(soft, "other/two/three")
    assert get(guest, "other/two/three").status == 403  # its own policy would allow
    expect_empty(set_rego(admin, "package policy\nallow := true\n"))
    assert get(guest, "other/two/three").status == 200
    soft.admin_json("secret", "policy", PATH, "--policy", soft.policy_file({"version": "1.0.0", "anyOf": [
        {"allOf": [{"claim": "kbs.tee", "equals": "snp"}]}]}))
    assert get(guest, PATH).status == 403  # the resource policy would allow
    soft.stop()
    soft.start()
    guest = Guest(soft.guest_url, soft.ca).handshake()
    admin = Resources(soft)
    assert [get(guest, p).status for p in (PATH, "other/two/three")] == [403, 200]
    expect_empty(set_rego(admin, ""))
    assert admin.request("GET", "/kbs/v0/resource-policy").json() == []
    assert get(guest, "other/two/three").status == 200
    released = [r for r in soft.records("release") if "resource_policy" in r]
    assert {r["resource_policy"] for r in released} == {
        hashlib.sha256(text.encode()).hexdigest() for text in (rego, "package policy\nallow := true\n")}
    run(BIN / "kbs-admin", "audit", "verify", soft.ledger_path)


@needs_rego
def test_the_sample_policies_of_trustee(soft):
    """With evidence of the sample TEE, which the default one is there to refuse."""
    if not REGO.is_dir():
        pytest.skip(f"{REGO} is not there")
    admin = Resources(soft)
    expect_empty(admin.put(PATH, b"value"))
    guest = Guest(soft.guest_url, soft.ca).handshake()
    claims = json.loads(unb64u(guest.token.split(".")[1]))
    affirming = claims["submods"]["cpu0"]["ear.status"] == "affirming"
    expected = {"allow_all": 200, "default": 403, "deny_all": 403, "affirming": 200 if affirming else 403}
    for name, status in expected.items():
        expect_empty(set_rego(admin, (REGO / f"{name}.rego").read_text()))
        answer = get(guest, PATH)
        print(f"{name}: {answer.status} {answer.json().get('detail', '')}")
        assert answer.status == status


@needs_rego
def test_a_resource_policy_that_is_none_is_refused_with_its_place(soft):
    admin = Resources(soft)
    expect_empty(set_rego(admin, "package policy\nallow := false\n"))
    for text, place in (("package policy\nallow if {\n  x ==  }\n", "line 3, column 9"),
                        ("package other\nallow := true\n", "not policy"), ("package policy\n", "no rule allow")):
        answer = set_rego(admin, text)
        assert answer.status == 422 and place in answer.json()["detail"], answer.body
    expect_empty(admin.put(PATH, b"value"))
    assert get(Guest(soft.guest_url, soft.ca).handshake(), PATH).status == 403  # the last good one stands


@needs_rego
def test_a_policy_that_does_not_end_moves_nobody(soft):
    admin = Resources(soft)
    expect_empty(admin.put(PATH, b"value"))
    soft.generate("default/disk/vm1")
    guest = Guest(soft.guest_url, soft.ca).handshake()
    pids = {role: sorted(soft.pids(role)) for role in ROLES}
    for body in ("  some a in numbers.range(1, 100000)\n  some b in numbers.range(1, 100000)\n  a * b < 0\n",
                 "  count(numbers.range(1, 1000000000)) == 0\n", "  1 / data.zero == 1\n", "  1 / count(data.query) == 1\n"):
        expect_empty(set_rego(admin, "package policy\nallow if {\n" + body + "}\n"))
        answer = get(guest, PATH)
        assert answer.status == 403, answer.body
        print(answer.json()["detail"])
        assert guest.get_key("default/disk/vm1").status == 200
    expect_empty(set_rego(admin, "package policy\nallow := true\n"))
    assert get(guest, PATH).status == 200
    assert {role: sorted(soft.pids(role)) for role in ROLES} == pids


def test_documents(soft):
    admin = Resources(soft)
    policy = {"type": "rego", "policy_id": "default_cpu", "policy": b64u('package policy # \u00e9\ntrust_claims := {"executables": 33}\n'.encode())}
    expect_empty(admin.request("POST", "/kbs/v0/attestation-policy", policy))
    payload = {"launch_digest": ["aGVsbG8="], "svn/of/it": 7}
    message = {"version": "0.1.0", "type": "sample", "payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    expect_empty(admin.request("POST", "/kbs/v0/reference-value", message))
    for name, value in payload.items():
        answer = admin.request("GET", "/kbs/v0/reference-value/" + name)
        assert answer.status == 200 and answer.json() == value
    assert admin.request("GET", "/kbs/v0/reference-value/none/such").status == 404
    raw = RawAdmin(soft)
    for name, status in (("svn/of/it", 200), ("svn/of/%69t", 401), ("svn/of%2fit", 400), ("svn/x/../of/it", 400), ("svn/%2e%2e/it", 400),
                         ("svn//of/it", 400), ("svn/of/it/", 400), ("svn/of/it;x", 400), ("svn/of/it%00", 400),
                         ("/".join("abcdefghijklm"), 404), ("/".join("abcdefghijklmn"), 400), ("", 400)):
        assert raw.send("GET", "/kbs/v0/reference-value/" + name)[0] == status, name
    assert admin.request("POST", "/kbs/v0/reference-value", message | {"type": "corim"}).status == 501
    soft.stop()
    with sqlite3.connect(soft.store_path) as db:  # somebody else
        db.execute("UPDATE document SET text = replace(text, '7', '6') WHERE name = 'svn/of/it'")
    soft.start()
    admin = Resources(soft)
    answer = admin.request("GET", "/kbs/v0/reference-value/launch_digest")
    assert answer.status == 503 and "not those of its epoch" in answer.json()["detail"]


# ---- what is asked for, what is decided about, what is kept, what is recorded: the same bytes


LONG = "n" * 247  # with one/two/ the longest path there is
URIS = [  # the path after the prefix, and whether it names something; as it is on the wire
    ("one/two/three", True), ("one/two/t.hree", True), ("one/two/three.", True), ("one/two/th..ree", True),
    ("One/two/three", True), ("one/two/_-3", True), ("one/two/" + LONG, True),
    ("one/two/" + LONG + "n", False), ("one/two/" + "n" * 255, False), ("one/two/" + "n" * 256, False),
    ("one/two/..", False), ("one/../three", False), ("../two/three", False), ("one/two/.", False), ("one/two/...", False),
    ("one/two/%2e%2e", False), ("one/%2e%2e/three", False), ("one/two/%2E.", False), ("one/two/.three", False),
    ("one/two%2fthree", False), ("one/two%2Fthree", False), ("one%2ftwo%2fthree", False), ("one/two/th%2free", False),
    ("one/two/th%5cree", False), ("one/two/th\\ree", False), ("one/two/..%5cthree", False),
    ("one//two/three", False), ("/one/two/three", False), ("one/two/three/", False), ("one/two//three", False),
    ("one/two/", False), ("one/two", False), ("one/two/three/four", False),
    ("one/two/three;x", False), ("one/two/three;x=1", False), ("one;x/two/three", False), ("one/two/three%3bx", False),
    ("one/two/three%00", False), ("one/two/%00three", False), ("one/two/th%00ree", False),
    ("one/two/%c0%af", False), ("one/two/%c0%aethree", False), ("one/two/%e0%80%af", False), ("one/two/%ff", False),
    ("one/two/%c3%a9", False), ("one/two/\u00e9", False),
    ("one/two/%252e%252e", False), ("one/two/th%252free", False), ("one/two/three%2500", False), ("one/two/%25", False),
    ("one/two/thre%65", None), ("%6fne/two/three", None),  # another spelling of a name that is there
    ("one/two/three%20", False), ("one/two/three+", False), ("one/two/three:", False), ("one/two/three#x", False),
    ("one/two/three?", True), ("one/two/three?x=1", False), ("one/two/three?%2e%2e=1", False),
]
METHODS = ["HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "post", "PROPFIND", "GET\0"]


class Raw:
    """Bytes to a listener as they are: no client library has a say in them."""

    def __init__(self, url, ca):
        self.parts = urllib.parse.urlsplit(url)
        self.context = ssl.create_default_context(cafile=ca)

    def send(self, method, target, headers=(), body=b""):
        head = [f"{method} {target} HTTP/1.1", "Host: kbs", "Connection: close", f"Content-Length: {len(body)}"]
        text = "\r\n".join(head + [f"{n}: {v}" for n, v in headers]) + "\r\n\r\n"
        with socket.create_connection((self.parts.hostname, self.parts.port), timeout=30) as plain:
            with self.context.wrap_socket(plain, server_hostname=self.parts.hostname) as s:
                s.sendall(text.encode() + body)
                answer = b""
                while chunk := s.recv(65536):
                    answer += chunk
        return int(answer.split(b" ", 2)[1]), answer.split(b"\r\n\r\n", 1)[1]


class RawAdmin(Resources):
    """Signs the target as it is on the wire."""

    def __init__(self, service):
        super().__init__(service)
        self.raw = Raw(service.admin_url, service.ca)

    def send(self, method, target, body=b""):
        signature = self.sign(method, target, body)
        return self.raw.send(method, target, [("Kbs-Signature", signature)], body)


def names_of(service):
    with sqlite3.connect(f"file:{service.store_path}?mode=ro", uri=True) as db:
        return {path for path, in db.execute("SELECT path FROM secret")}


@pytest.mark.parametrize("prefix", [RESOURCE, PKCS11])
def test_a_name_is_the_same_everywhere(soft, prefix):
    admin = RawAdmin(soft)
    made = set()
    for uri, good in URIS:
        status, body = admin.send("POST", prefix + uri, b"value")
        name = uri.rstrip("?")
        if good:
            assert (status, body) == (200, b""), (uri, status, body)
            made.add(name)
        else:
            assert status in (400, 401, 404), (uri, status, body)
        assert names_of(soft) == made, uri
    # The ledger tells of the same names, and of no other.
    sets = [r for r in soft.records("secret-set") if r["phase"] == "intent"]
    assert {r["path"] for r in sets} == made and len(sets) == sum(1 for _, good in URIS if good)
    assert set(admin.paths()) == made

    # A policy for exactly that target and name: what it sees is what was asked for, and what the store has.
    for name in sorted(made):
        policy = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.path", "equals": prefix + name},
                                                           {"claim": "kbs.key.path", "equals": name}]}]}
        (soft.folder / "policy.json").write_text(json.dumps(policy))
        soft.admin_json("secret", "policy", name, "--policy", soft.folder / "policy.json")
    guest = Guest(soft.guest_url, soft.ca).handshake()
    raw = Raw(soft.guest_url, soft.ca)
    cookie = [("Cookie", "kbs-session-id=" + guest.cookie)]
    for uri, good in URIS:
        status, body = raw.send("GET", prefix + uri, cookie)
        if good:
            assert status == 200, (uri, status, body)
        elif good is None:  # found, and its policy sees the other spelling
            assert status == 403 and b"kbs.path" in body, (uri, status, body)
        else:
            assert status in (400, 404), (uri, status, body)
        assert raw.send("GET", prefix + uri)[0] in ((401,) if good is not False else (400, 401, 404)), uri
    kids = [r["kid"] for r in soft.records("release")]
    assert {kid.rsplit("/", 1)[0] for kid in kids} == made and len(kids) == sum(1 for _, good in URIS if good)

    # Deletion, too, by that spelling only.
    before = made
    for uri, good in URIS:
        status, body = admin.send("DELETE", prefix + uri)
        assert status == (200 if good and uri.rstrip("?") in before else status), (uri, status, body)
        left = set(admin.paths())
        assert before - left == ({uri.rstrip("?")} & before if good else set()), uri
        before = left


def test_other_methods(soft):
    admin = RawAdmin(soft)
    expect_empty(admin.put(PATH, b"value"))
    allow(soft)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    raw = Raw(soft.guest_url, soft.ca)
    before = len(soft.ledger())
    for prefix in (RESOURCE, PKCS11):
        for method in METHODS + ["POST", "DELETE"]:  # these two are the administrators'
            status, _ = raw.send(method, prefix + PATH, [("Cookie", "kbs-session-id=" + guest.cookie)])
            assert status in (400, 405, 501), (method, status)
        for method in METHODS + ["GET"]:  # no request gives a value back
            status, _ = admin.send(method, prefix + PATH)
            assert status in (400, 405, 501), (method, status)
    assert len(soft.ledger()) == before and admin.paths() == [PATH]
    for target in ("/kbs/v0/resource", "/kbs/v0/resource-policy", "/kbs/v0/reference-value/a", "/kbs/v0/attestation-policy"):
        assert raw.send("GET", target)[0] == 404 and raw.send("POST", target)[0] == 404  # not here at all


# ---- a value survives whatever is killed


def value_of(service):
    """The value as a guest gets it, or None while there is no answer."""
    try:
        guest = Guest(service.guest_url, service.ca).handshake()
        answer = get(guest, PATH)
        guest.close()
    except (AssertionError, OSError, http.client.HTTPException):
        return None
    return open_jwe(guest, answer.json()) if answer.status == 200 else None


def acknowledged(admin, value, killer):
    """True if the service said that it has the value; False if it said nothing, or that it has it not."""
    headers = {"Kbs-Signature": admin.sign("POST", RESOURCE + PATH, value), "Content-Type": "application/octet-stream"}
    killer.start()
    try:
        answer = admin.http.request("POST", RESOURCE + PATH, value, headers)
    except (OSError, http.client.HTTPException):
        return False
    # 401 or 409: another judge, whose nonce it is not; or the request went twice, after a connection that broke
    assert answer.status in (200, 401, 409, 503), answer.body
    return answer.status == 200


def victim(service, role):
    """kbs-audit, or a role of the admin lane."""
    return next(r["pid"] for r in service.roles()
                if r["role"] == role and (role == "kbs-audit" or r["unit"].startswith("lane-admin")))


def strike(service, what):
    if what == "service":
        service.kill_all()
    else:
        os.kill(victim(service, what), signal.SIGKILL)


def test_killed_while_it_is_replaced(soft):
    """The old value or the new one, never a mixture; and never the old one once the new one was acknowledged."""
    chance = random.Random(int(os.environ.get("KBS_RESOURCE_SEED", "1")))
    last = b"0" * 4096
    expect_empty(Resources(soft).put(PATH, last))
    tally = collections.Counter()
    for i in range(KILLS):
        what = ("kbs-judge", "kbs-audit", "kbs-token", "service")[i % 4]
        value = os.urandom(1) * chance.choice([1, 4096, 100000]) + i.to_bytes(2, "big")
        admin = Resources(soft)
        killer = threading.Timer(chance.uniform(0, 0.06), strike, (soft, what))
        done = acknowledged(admin, value, killer)
        killer.join()
        admin.close()
        if what == "service":
            soft.start()
        wait_until(lambda: soft.admin("secret", "list", check=False).returncode == 0, 60, f"round {i}: administration")
        allow(soft)
        got = wait_until(lambda: value_of(soft), 60, f"round {i}: an answer after {what} was killed")
        assert got == value if done else got in (last, value), (i, what, done, got[:8], value[:8], last[:8])
        tally[(what, done, got == value)] += 1
        last = got
    print("what was killed, was it acknowledged, was it kept:", dict(tally))
    run(BIN / "kbs-admin", "audit", "verify", soft.ledger_path)
