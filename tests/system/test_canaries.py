"""Canaries: secrets that can be recognised go through a day of a service, its errors included, and are then looked for
wherever something could have kept them. What may be there stands beside it as the proof that the place was looked at."""
import base64
import json
import os
import signal
import sqlite3
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kbsadmin import Admin
from kbsguest import Guest, Http, b64u
from service import ALLOW_SAMPLE, wait_until
from test_memory import needs_plain, needs_root, scan, spellings
from test_secrets import SecretAdmin, get, open_jwe

NAME = "canary/cage/one"
SECRET = "canary/cage/two"


class Listener(Http):
    """Keeps what it was answered when that was an error."""

    heard = []

    def request(self, method, target, body=None, headers=None):
        answer = super().request(method, target, body, headers)
        if answer.status >= 400:
            self.heard.append(repr(answer.headers).encode() + answer.body)
        return answer


def listening(service):
    guest = Guest(service.guest_url, service.ca)
    guest.http = Listener(service.guest_url, service.ca)
    return guest


def found_in(data, canaries):
    return {name for name, secret in canaries.items() if any(form in data for form in spellings(secret))}


def errors_of_a_guest(service, guest, canaries):
    """Requests that are refused and carry what must not be repeated."""
    cookie, token = guest.cookie, guest.token
    bearer = canaries["bearer"].decode()
    malformed = json.dumps({"nonce": canaries["key"].hex(), bearer: token})
    for headers in (guest.cookies(), {"Cookie": f"kbs-session-id={cookie}0"}, {"Cookie": f"kbs-session-id={cookie}; x={bearer}"},
                    {"Authorization": "Bearer " + bearer}, {"Authorization": "Bearer " + token[:-2]}, {"Authorization": token},
                    {"Authorization": "Bearer " + token, "Cookie": "kbs-session-id=" + "0" * 32},
                    {"Authorization": f"Bearer {token}", "Cookie": f"kbs-session-id={cookie[::-1]}"}):
        for method, target, body in (("POST", f"/kbs/v0/key/{NAME}", malformed), ("POST", f"/kbs/v0/key/{NAME}x", None),
                                     ("GET", f"/kbs/v0/resource/{SECRET}x", None), ("PUT", "/kbs/v0/auth", None),
                                     ("POST", "/kbs/v0/attest", json.dumps({"token": token})),
                                     ("POST", "/kbs/v0/auth", f'{{"{bearer}":"{token}'),
                                     ("POST", f"/kbs/v0/key/{NAME}?context={bearer}", None),
                                     ("GET", f"/nowhere?token={token}", None)):
            answer = guest.http.request(method, target, body, {"Content-Type": "application/json", **headers})
            assert answer.status >= 400, (target, headers)
    lie = guest.attestation()
    lie["tee-evidence"]["primary_evidence"][bearer] = canaries["tee-key"].hex()
    assert guest.attest(lie).status >= 400


def errors_of_an_administrator(service, canaries):
    admin = Admin(service)
    admin.http = Listener(service.admin_url, service.ca)
    bearer = canaries["bearer"].decode()
    for target in "/kbs/v0/admin/keys", "/kbs/v0/admin/secrets", "/kbs/v0/admin/nowhere", "/kbs/v0/resource-policy":
        for headers in ({"Authorization": "Bearer " + bearer}, {"Kbs-Signature": bearer}, {"Cookie": bearer}):
            assert admin.http.request("GET", target, headers=headers).status >= 400
    for body in ({bearer: 1}, {"jwe": canaries["secret"].hex()}, {"plaintext": canaries["secret"].hex() + "="}):
        assert admin.request("POST", "/kbs/v0/admin/secrets/" + SECRET, body).status >= 400
    assert admin.request("POST", f"/kbs/v0/admin/keys/{NAME}/import", {"jwe": canaries["key"].hex()}).status >= 400


def canaries_of(service):
    return {"key": os.urandom(32), "secret": b64u(os.urandom(48)).encode(),
            "bearer": b"canary-" + b64u(os.urandom(24)).encode(), "PIN": (service.folder / "pin").read_bytes().strip()}


def scan_all(service, canaries):
    roles = [(r["role"], r["pid"]) for r in service.roles()] + [("kbsd", service.state()["pid"])]
    assert {role for role, _ in roles} >= {"kbsd", "kbs-front", "kbs-judge", "kbs-token", "kbs-audit"}
    kept = {}
    for role, pid in roles:
        if role != "kbs-token":
            hits, scanned = scan(pid, canaries)
            print(f"{service.token} {role} pid {pid}: {scanned >> 10} KiB scanned, found {sorted(hits)[:5]}")
            if hits:
                kept[role, pid] = sorted(hits)[:8]
    assert not kept


def a_day(service, canaries):
    """Fills in the canaries that the service itself makes. Returns what the programs printed."""
    said = [json.dumps(service.import_key(NAME, canaries["key"]))]
    said.append(service.admin("secret", "set", SECRET, "--policy", service.policy_file(),
                              input=canaries["secret"].decode()).stdout)
    guest = listening(service).handshake()
    canaries["cookie"] = guest.cookie.encode()
    canaries["token"] = guest.token.rsplit(".", 1)[1].encode()  # the signature: no other token has it
    canaries["tee-key"] = guest.key.private_numbers().private_value.to_bytes(32, "big")
    for _ in range(20):
        assert guest.open_jose(guest.get_key(NAME).json(), NAME + "/v1")[1] == canaries["key"]
        answer = guest.get_key(NAME, "application/cose", headers={"Authorization": "Bearer " + guest.token})
        assert guest.open_cose(answer.body, NAME + "/v1")[1] == canaries["key"]
        assert open_jwe(guest, get(guest, SECRET).json()) == canaries["secret"]
    errors_of_a_guest(service, guest, canaries)
    errors_of_an_administrator(service, canaries)
    for role in "kbs-token", "kbs-judge":  # a lane dies with a session in hand, and says why
        victim = service.pids(role)[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in service.pids(role) and service.lanes_ready(), 60, "the lane is back")
        assert wait_until(lambda: guest.get_key(NAME).status == 200, 30, "it serves")
    for argv in (("key", "show", NAME), ("key", "list"), ("secret", "show", SECRET), ("key", "show", NAME + "x")):
        done = service.admin(*argv, check=False)
        said += [done.stdout, done.stderr]
    for path in NAME, NAME + "x":
        done = service.guest("get-key", path, check=False)
        said.append(done.stderr)  # stdout is where a guest has its key from
    guest.close()
    return said


def places(service, said):
    """Everything that lasts, or that somebody else may read: {what: (bytes, what must be found there)}."""
    def metrics(url):
        return Http(url, service.ca).request("GET", "/metrics").body

    sqlite3.connect(service.store_path).close()
    store = b"".join(path.read_bytes() for path in sorted(service.store_path.parent.glob("store.db*")))
    return {
        "logs": ((service.folder / service.log_name).read_bytes(), b"event=request"),
        "guest metrics": (metrics(service.guest_url), b"kbs_auth_requests_total"),
        "admin metrics": (metrics(service.admin_url), b'route="admin-secret-set"'),
        "error bodies": (b"\n".join(Listener.heard), b"errors/TokenVerifierError"),
        "the programs' output": ("\n".join(said).encode(), NAME.encode()),
        "ledger": (service.ledger_path.read_bytes(), NAME.encode()),
        "store": (store, NAME.encode()),
    }


def test_no_canary_is_kept_anywhere(service):
    Listener.heard = []
    canaries = canaries_of(service)
    said = a_day(service, canaries)
    assert set(canaries) == {"key", "secret", "bearer", "PIN", "cookie", "token", "tee-key"}
    assert len(Listener.heard) > 60
    for place, (data, known) in places(service, said).items():
        assert known in data, f"{place}: there is nothing there"
        hits = found_in(data, canaries)
        print(f"{service.token} {place}: {len(data)} bytes, found {sorted(hits)}")
        assert not hits, f"{place}: {hits}"


@pytest.mark.parametrize("form", range(12))
def test_the_search_finds_every_spelling(form):
    """Planted in a text, at any alignment of base64: found, and nothing else is."""
    secret, others = os.urandom(32), {str(i): os.urandom(32) for i in range(100)}
    shift = os.urandom(form % 3)
    texts = {0: secret, 1: secret.hex().encode(), 2: base64.b64encode(shift + secret + b"xx"),
             3: base64.urlsafe_b64encode(shift + secret + b"xx")}
    text = os.urandom(1000).hex().encode() + b' detail="' + texts[form // 3] + b'"\n'
    assert found_in(text, {"planted": secret, **others}) == {"planted"}


@needs_root
@needs_plain
def test_no_canary_is_in_the_memory_of_a_role(service):
    """Of all roles but kbs-token, which alone has the PIN and opens secrets."""
    canaries = canaries_of(service)
    a_day(service, canaries)
    scan_all(service, canaries)


@needs_root
@needs_plain
@pytest.mark.parametrize("size", [48, 8000, 131072])
def test_plaintext_is_forgotten_once_it_is_answered(soft, size):
    """For clients that cannot seal: the value does pass through the admin front and judge, and does not stay."""
    admin = SecretAdmin(soft)
    values = {name: b64u(os.urandom(size * 3 // 4)).encode()[:size] for name in ("taken", "refused", "malformed")}
    body = {"policy": ALLOW_SAMPLE}
    assert admin.secret("POST", {"plaintext": b64u(values["taken"])} | body).status == 200
    assert admin.secret("POST", {"plaintext": b64u(values["refused"]), "jwe": {}} | body).status == 400
    assert admin.secret("POST", {"plaintext": b64u(values["malformed"]) + "="} | body).status == 400
    assert [r["form"] for r in soft.records("secret-set") if r["phase"] == "intent"] == ["plaintext"]
    ends = {}  # of a long value, pieces: what overwrites a part of it must not hide the rest
    for name, value in values.items():
        for at in range(0, len(value) - 47, max(1, (len(value) - 48) // 16)):
            ends[f"{name}-{at}"] = value[at:at + 48]
    scan_all(soft, ends)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert open_jwe(guest, get(guest, "shop/db/password").json()) == values["taken"]


@pytest.fixture
def compatible(make_service, tmp_path):
    """A service for Trustee's clients, and the token of an administrator's identity provider for it."""
    service = make_service("softhsm")
    key = Ed25519PrivateKey.generate()
    (service.folder / "issuer.pem").write_bytes(key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    (service.folder / "resources.json").write_text(json.dumps(ALLOW_SAMPLE))
    with open(service.folder / "kbs.toml", "a") as config:
        config.write('\n[[plugins]]\nname = "resource"\npolicy = "resources.json"\n')
    service.edit_config(r"^(keys = .*admin.*)$", r'''\1
trustee_compat = true
authorization_mode = "AuthenticatedAuthorization"

[admin.authentication.bearer_jwt]
identity_providers = [{ issuer = "issuer", public_key_uri = "issuer.pem" }]

[admin.authorization.regex_acl]
acls = [{ role = "admin", allowed_endpoints = "^/kbs/v0/.+$" }]
''')
    service.start()
    claims = {"iss": "issuer", "sub": "somebody", "role": "admin", "exp": int(time.time()) + 600}
    signed = ".".join(b64u(json.dumps(part).encode()) for part in ({"alg": "EdDSA"}, claims))
    return service, f"{signed}.{b64u(key.sign(signed.encode()))}"


@needs_root
@needs_plain
@pytest.mark.parametrize("size", [48, 131072])
def test_a_compatible_upload_is_forgotten_once_it_is_answered(compatible, size):
    """The value in the body and the token in the header, as kbs-client sends them: used, marked in the ledger, gone."""
    service, token = compatible
    value = b64u(os.urandom(size * 3 // 4)).encode()[:size]
    http = Http(service.admin_url, service.ca)
    headers = {"Authorization": "Bearer " + token, "Content-Type": "application/octet-stream"}
    assert http.request("POST", "/kbs/v0/resource/" + SECRET, value, headers).status == 200
    assert http.request("POST", "/kbs/v0/resource/" + SECRET, value, headers | {"Authorization": f"Bearer {token}x"}).status == 401
    canaries = {f"value-{at}": value[at:at + 48] for at in range(0, len(value) - 47, max(1, (len(value) - 48) // 16))}
    canaries["token"] = token.rsplit(".", 1)[1].encode()
    scan_all(service, canaries)
    intents = [r for r in service.records("secret-set") if r["phase"] == "intent"]
    assert [(r["form"], r["auth"], r["role"]) for r in intents] == [("plaintext", "bearer", "admin")]
    guest = Guest(service.guest_url, service.ca).handshake()
    assert open_jwe(guest, get(guest, SECRET).json()) == value
    for place, (data, _) in places(service, []).items():
        assert not found_in(data, canaries), place
