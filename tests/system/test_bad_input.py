"""Bad input: each kind gets its documented status with the KBS error JSON, releases nothing, is counted or audited, and
the next request is served."""
import json
import re
import socket
import time

import pytest

from kbsguest import Guest, b64u, unb64u
from service import run

ERRORS = "https://github.com/confidential-containers/kbs/errors/"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One service for the whole table: that it keeps serving is part of what is tested."""
    from service import Service
    one = Service(tmp_path_factory.mktemp("service") / "softhsm", "softhsm")
    one.add_plain_listener()
    one.start()
    one.generate("default/disk/vm1")
    yield one
    one.stop()
    print(one.log_text()[-20000:])


def metric(service, name):
    """Sum over all label sets of a counter on the guest front."""
    text = Guest(service.guest_url, service.ca).http.request("GET", "/metrics").body.decode()
    return sum(float(m.group(1)) for m in re.finditer(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))


@pytest.fixture(autouse=True)
def nothing_is_released_and_the_next_is_served(shared):
    before = len(shared.records("release"))
    counted = metric(shared, "kbs_http_requests_total") + metric(shared, "kbs_http_refused_total")
    yield
    assert len(shared.records("release")) == before
    assert metric(shared, "kbs_http_requests_total") + metric(shared, "kbs_http_refused_total") > counted + 1
    guest = Guest(shared.guest_url, shared.ca).handshake()
    assert guest.get_key("default/disk/vm1").status == 200
    guest.close()


def expect(answer, status, variant=None, detail=None):
    assert answer.status == status, answer.body
    body = answer.json()
    assert set(body) == {"type", "detail"} and body["type"].startswith(ERRORS)
    if variant:
        assert body["type"] == ERRORS + variant
    if detail:
        assert detail in body["detail"], body["detail"]


def fresh(service, curve="P-256"):
    return Guest(service.guest_url, service.ca, curve)


@pytest.mark.parametrize("version", ["0.1.0", "0.4.1", "0.5.0", "", "x"])
def test_wrong_version(shared, version):
    expect(fresh(shared).auth(version=version), 401, "AttestationError", "KBS Client Protocol Version Mismatch")


@pytest.mark.parametrize("tee", ["", "Sample", "sev", "snp2", "x" * 1000])
def test_unknown_tee(shared, tee):
    expect(fresh(shared).auth(tee=tee), 401, "AttestationError")


@pytest.mark.parametrize("body", [
    "", "{", "[]", "null", '"x"', "{} x", '{"version":"0.4.0","tee":"sample"}',
    '{"version":"0.4.0","tee":"sample","extra-params":"","version":"0.4.0"}',
    '{"version":"0.4.0","tee":"sample","extra-params":"\\u0000"}'.replace("\\u0000", "\x00"),
    '{"version":4,"tee":"sample","extra-params":""}',
    '{"version":"0.4.0","tee":"sample","extra-params":' + "[" * 100 + "]" * 100 + "}",
    b'{"version":"0.4.0","tee":"sample","extra-params":"\xff"}',
])
def test_malformed_auth(shared, body):
    expect(fresh(shared).http.request("POST", "/kbs/v0/auth", body, {"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("change", [
    lambda t: t[:-1], lambda t: t.replace('"init-data"', '"init-datas"', 1).replace('"runtime-data"', '"x"', 1),
    lambda t: t.replace('{"nonce"', '{"nonce":"a","nonce"', 1), lambda t: t + t, lambda t: "[" + t + "]",
    lambda t: t.replace('"tee-evidence"', '"tee-evidences"', 1),
])
def test_malformed_attestation(shared, change):
    guest = fresh(shared)
    guest.auth()
    expect(guest.attest(raw=change(json.dumps(guest.attestation()))), 400)
    assert guest.attest().status == 200  # and nothing is lost: the challenge is still good


def test_point_off_its_curve(shared):
    guest = fresh(shared)
    guest.auth()
    jwk = guest.jwk()
    y = bytearray(unb64u(jwk["y"]))
    y[-1] ^= 1
    expect(guest.attest(guest.attestation({**jwk, "y": b64u(bytes(y))})), 422)


@pytest.mark.parametrize("change,status", [
    ({"crv": "P-384"}, (400, 422)), ({"crv": "secp256k1"}, (400, 422)), ({"crv": "X25519", "kty": "OKP"}, (400, 422)),
    ({"x": b64u(bytes(31))}, (400, 422)), ({"x": b64u(bytes(32)), "y": b64u(bytes(32))}, (422,)),
    ({"x": b64u(b"\xff" * 32)}, (422,)), ({"y": None}, (400,)), ({"alg": "RSA-OAEP-256"}, (400, 422)),
    ({"x": b64u(bytes(32)) + "="}, (400, 422)), ({"d": b64u(bytes(32))}, (400, 422)),
])
def test_wrong_tee_key(shared, change, status):
    guest = fresh(shared)
    guest.auth()
    jwk = {name: value for name, value in {**guest.jwk(), **change}.items() if value is not None}
    answer = guest.attest(guest.attestation(jwk))
    assert answer.status in status
    expect(answer, answer.status)


def test_evidence_for_another_key(shared):
    guest = fresh(shared)
    guest.auth()
    expect(guest.attest(guest.attestation(report_data=bytes(48))), 401, "AttestationError")
    assert [r for r in shared.records("attest-refused") if r.get("outcome") == "refused"]


def test_nonce_of_another_session(shared):
    one, other = fresh(shared), fresh(shared)
    one.auth()
    other.auth()
    expect(one.attest(one.attestation(nonce=other.nonce)), 401)


def test_a_nonce_attests_once(shared):
    guest = fresh(shared)
    guest.auth()
    message = guest.attestation()
    assert guest.attest(message).status == 200
    expect(guest.attest(message), 401, "AttestationError")


def test_attest_without_or_with_an_unknown_cookie(shared):
    guest = fresh(shared)
    guest.auth()
    message = guest.attestation()
    for cookie in (None, "0" * 32, "x", "0" * 31):
        guest.cookie = cookie
        answer = guest.attest(message)
        assert answer.status in (400, 401)
        expect(answer, answer.status)


def test_no_session_is_401_for_existing_and_missing_keys_alike(shared):
    guest = fresh(shared)
    answers = [guest.get_key(path) for path in ("default/disk/vm1", "default/disk/none")]
    assert answers[0].body == answers[1].body
    for answer in answers:
        expect(answer, 401)


def test_an_unattested_session_gets_nothing(shared):
    guest = fresh(shared)
    guest.auth()
    expect(guest.get_key("default/disk/vm1"), 401)


def test_unknown_key_and_version(shared):
    guest = fresh(shared).handshake()
    expect(guest.get_key("default/disk/none"), 404)
    expect(guest.get_key("default/disk/vm1", query="?version=2"), 404)
    for query in ("?version=0", "?version=-1", "?version=1x", "?version=4294967296", "?version=", "?context=some",
                  "?version=1&version=1", "?unknown=1"):
        expect(guest.get_key("default/disk/vm1", query=query), 400)


@pytest.mark.parametrize("target", [
    "default/../disk/vm1", "default/disk/..", "default/disk/%2e%2e", "default/disk/a%2fb", "default/disk/a%5cb",
    "default//vm1", "default/disk/vm1/", "default/disk/a%00", "default/disk/a;b", "default/disk/%c0%af",
    "default/disk/.a", "default/disk/" + "a" * 256, "default/disk", "default/disk/vm1/v1", "default/disk/%zz",
    "default/disk/%252e%252e",
])
def test_paths_that_are_not_keys(shared, target):
    guest = fresh(shared).handshake()
    answer = guest.get_key(target)
    assert answer.status in (400, 404)
    expect(answer, answer.status)


def forge(token, header=None, claims=None, signature=None):
    parts = token.split(".")
    if header is not None:
        parts[0] = b64u(json.dumps({**json.loads(unb64u(parts[0])), **header}).encode())
    if claims is not None:
        parts[1] = b64u(json.dumps({**json.loads(unb64u(parts[1])), **claims}).encode())
    if signature is not None:
        parts[2] = b64u(signature)
    return ".".join(parts)


def resigned(token, claims=None, header=None):
    """The same token signed by a key of the forger's."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives import hashes
    text = forge(token, header or {}, claims or {}).rsplit(".", 1)[0]
    r, s = utils.decode_dss_signature(ec.generate_private_key(ec.SECP256R1()).sign(text.encode(),
                                                                                   ec.ECDSA(hashes.SHA256())))
    return text + "." + b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_forged_and_expired_tokens(shared):
    guest = fresh(shared).handshake()
    token = guest.token
    attempts = [
        "", "x", "a.b.c", token[:-2], token + "A", token + ".", forge(token, claims={"exp": 1}),
        forge(token, claims={"exp": 4102444800}), forge(token, header={"alg": "none"}, signature=b""),
        forge(token, header={"alg": "HS256"}), forge(token, header={"alg": "ES384"}), forge(token, header={"crit": ["x"]}),
        forge(token, signature=bytes(64)), forge(token, signature=b"\xff" * 64), forge(token, signature=bytes(63)),
        resigned(token), resigned(token, {"exp": 1}), resigned(token, header={"jwk": guest.jwk()}),
        resigned(token, header={"kid": "../../etc/passwd"}), "A" * 5000,
    ]
    for attempt in attempts:
        expect(guest.get_key("default/disk/vm1", headers={"Authorization": "Bearer " + attempt}), 401)
    for scheme in ("Basic eDp4", "Bearer", "bearer", "Digest x"):
        expect(guest.get_key("default/disk/vm1", headers={"Authorization": scheme}), 401)


def test_a_really_expired_token(make_service):
    soft = make_service("softhsm")
    soft.edit_config(r"^duration_min = .*$", "duration_min = 1")
    soft.start()
    # A token of ours whose session has run out: moved into the past in the store instead of waiting a minute.
    soft.generate("default/disk/vm1")
    guest = Guest(soft.guest_url, soft.ca).handshake()
    import sqlite3
    with sqlite3.connect(soft.folder / "store" / "store.db", timeout=30) as store:
        changed = store.execute("update session set expires_s = ?", (int(time.time()) - 1,)).rowcount
    assert changed >= 1
    expect(guest.get_key("default/disk/vm1"), 401)
    expect(guest.get_key("default/disk/vm1", headers={"Authorization": "Bearer " + guest.token}), 401)


def test_cookie_of_another_session_with_a_token(shared):
    one, other = fresh(shared).handshake(), fresh(shared).handshake()
    expect(one.get_key("default/disk/vm1", headers={"Authorization": "Bearer " + one.token, **other.cookies()}), 401)


@pytest.mark.parametrize("body", ["{", "[]", '{"nonce":"AA"}', '{"nonce":1}', '{"x":1}', '{"nonce":""}',
                                  '{"salt":"' + "A" * 90 + '"}', '{"salt":"="}'])
def test_malformed_key_request(shared, body):
    guest = fresh(shared).handshake()
    expect(guest.http.request("POST", "/kbs/v0/key/default/disk/vm1", body,
                              {"Content-Type": "application/json", **guest.cookies()}), 400)


def test_nothing_acceptable(shared):
    guest = fresh(shared).handshake()
    expect(guest.get_key("default/disk/vm1", accept="text/html"), 400)


def test_oversized_body_and_head(shared):
    guest = fresh(shared)
    expect(guest.http.request("POST", "/kbs/v0/auth", b"x" * (2 * 1024 * 1024 + 1)), 413)
    guest = fresh(shared)
    answer = guest.http.request("POST", "/kbs/v0/auth", b"{}", {"X-Large": "x" * 20000})
    assert answer.status in (400, 431)
    expect(answer, answer.status)
    guest = fresh(shared)
    answer = guest.http.request("POST", "/kbs/v0/auth", b"{}", {f"X-{i}": "x" for i in range(100)})
    assert answer.status in (400, 431)


def test_unknown_paths_and_methods(shared):
    guest = fresh(shared)
    expect(guest.http.request("GET", "/"), 404)
    expect(guest.http.request("GET", "/kbs/v0/nothing"), 404)
    expect(guest.http.request("GET", "/kbs/v0/auth"), 405)
    expect(guest.http.request("POST", "/kbs/v0/admin/keys", b"{}"), 404)  # no admin route on the guest listener
    expect(guest.http.request("GET", "/kbs/v0/admin/nonce"), 404)


RAW = [
    b"GET /healthz\r\n\r\n", b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", b"GET /healthz HTTP/1.1\nHost: x\n\n",
    b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    b"POST /kbs/v0/auth HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"\x16\x03\x01\x00\x05hello",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length : 0\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
def test_raw_requests_that_break_the_rules(shared, raw):
    host, port = shared.plain_url.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(raw)
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    # one answer, then the connection is closed; a line that is no HTTP at all may be closed without one
    assert answer == b"" or re.match(rb"HTTP/1\.1 4\d\d ", answer), answer
    assert len(re.findall(rb"^HTTP/1\.1 \d", answer, re.M)) <= 1


def test_tls_1_2_is_refused(shared):
    address = shared.guest_url.split("//")[1]
    done = run("openssl", "s_client", "-tls1_2", "-connect", address, check=False, input="")
    assert done.returncode != 0
    done = run("curl", "-sS", "--cacert", shared.ca, "--tlsv1.3", shared.guest_url + "/healthz", "-w", "%{http_code}")
    assert done.stdout.endswith("200")
