"""The attack table: what has been done to key brokers of this protocol, or would have worked on one of them, done to a
running service over HTTP. A test's name is its row. Attacks on resource paths, on administrators' tokens and on the
attestation token's form have files of their own; what a malformed message gets is in test_bad_input.py."""
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import sqlite3
import threading
import time

import pytest

from kbsadmin import Admin
from kbsguest import Guest, Http
from service import wait_until
from test_bad_input import expect, fresh, shared  # noqa: F401 (shared is a fixture)

KEY = "default/disk/vm1"
SOURCE = pathlib.Path(os.environ.get("KBS_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
SUITE = pathlib.Path(os.environ.get("KBS_VECTORS_DIR", SOURCE.parent / "shared" / "vectors")) / "json" / "JSONTestSuite.jsonl"


def routes(listener):
    """(method, a path of that shape) of every row of the route table that a listener has."""
    table = (SOURCE / "src" / "http" / "route.c").read_text()
    rows = re.findall(r'\{KBS_ROUTE_\w+,\s*([A-Z| ]+),\s*"([A-Z]+)",\s*"([^"]+)"', table)
    found = [(method, path.replace("{...}", "x").replace("{}", "x")) for listeners, method, path in rows
             if listener in listeners]
    assert len(found) > 5
    return found


def released(service):
    return len(service.records("release"))


# ---- bodies ----

def test_auth_bodies_are_bounded(shared):
    message = json.dumps({"version": "0.4.0", "tee": "sample", "extra-params": ""}).encode()
    headers = {"Content-Type": "application/json"}
    full = message + b" " * (65536 - len(message))
    assert fresh(shared).http.request("POST", "/kbs/v0/auth", full, headers).status == 200
    expect(fresh(shared).http.request("POST", "/kbs/v0/auth", full + b" ", headers), 413, "TooLarge")
    chunks = http.client.HTTPConnection(shared.plain_url.split("//")[1], timeout=30)
    chunks.putrequest("POST", "/kbs/v0/auth")
    chunks.putheader("Transfer-Encoding", "chunked")
    chunks.endheaders()
    begin = time.monotonic()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):  # without an end: the server has to stop this
        while time.monotonic() < begin + 30:
            chunks.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
    # nested and wide: refused before they cost what they could
    for body in ('{"a":' + "[" * 30000, '{"a":[' + ",".join(["{}"] * 20000) + "]}"):
        begin = time.monotonic()
        expect(fresh(shared).http.request("POST", "/kbs/v0/auth", body, headers), 400)
        assert time.monotonic() - begin < 5


def test_json_that_is_none_is_400_over_http(shared):
    if not SUITE.exists():
        pytest.skip(f"no {SUITE}")
    import base64
    guest, asked = fresh(shared), 0
    for row in map(json.loads, SUITE.read_text().splitlines()):
        if row["name"].startswith("n_"):
            answer = guest.http.request("POST", "/kbs/v0/auth", base64.b64decode(row["bytes"]),
                                        {"Content-Type": "application/json"})
            assert answer.status == 400, (row["name"], answer.body)
            expect(answer, 400)
            asked += 1
    print(f"{asked} files of JSONTestSuite n_: all 400")
    assert asked > 180


# ---- sessions ----

def test_attest_with_another_sessions_cookie(shared):
    one, other = fresh(shared), fresh(shared)
    one.auth()
    other.auth()
    message = one.attestation()
    own, one.cookie = one.cookie, other.cookie
    expect(one.attest(message), 401, "AttestationError")
    one.cookie = own
    assert one.attest(message).status == 200  # neither session is the worse for it
    assert other.attest().status == 200
    one.cookie = other.cookie  # and now both are attested
    expect(one.attest(message), 401, "AttestationError")


def test_nonce_reuse(shared):
    guest = fresh(shared)
    guest.auth()
    first, message = guest.nonce, guest.attestation()
    assert guest.attest(message).status == 200
    expect(guest.attest(message), 401, "AttestationError")
    guest.cookie = None
    guest.auth()
    assert guest.nonce != first
    expect(guest.attest(message), 401, "AttestationError")  # the old nonce under a new session
    expect(guest.attest(guest.attestation(nonce=first)), 401, "AttestationError")
    assert guest.attest().status == 200
    nonces = {first, guest.nonce}
    for _ in range(50):
        one = fresh(shared)
        one.auth()
        nonces.add(one.nonce)
    assert len(nonces) == 52


@pytest.mark.parametrize("same_key", [True, False])
def test_two_concurrent_attests_of_one_nonce(shared, same_key):
    """Exactly one is given a token, whichever lane it comes to, and with another TEE key no less."""
    for _ in range(20):
        first = fresh(shared)
        first.auth()
        second = fresh(shared)
        second.cookie, second.nonce = first.cookie, first.nonce
        if same_key:
            second.key = first.key
        guests = [first, second]
        messages = [guest.attestation() for guest in guests]
        start = threading.Barrier(2)

        def attest(guest, message):
            guest.http.request("GET", "/healthz")  # the connection stands
            start.wait(30)
            return guest.attest(message)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(attest, guests, messages))
        assert sorted(a.status for a in answers) == [200, 401], [a.body for a in answers]
        winner = guests[[a.status for a in answers].index(200)]
        loser = guests[1 - guests.index(winner)]
        answer = winner.get_key(KEY)
        assert answer.status == 200
        winner.open_jose(answer.json(), KEY + "/v1")
        if not same_key:  # the cookie is both's, the key is the winner's
            answer = loser.get_key(KEY)
            with pytest.raises(Exception):
                loser.open_jose(answer.json(), KEY + "/v1")
        first.close()
        second.close()


def test_tee_pubkey_changed_after_evidence(shared):
    victim, thief = fresh(shared), fresh(shared)
    victim.auth()
    message = victim.attestation()
    changed = json.loads(json.dumps(message))
    changed["runtime-data"]["tee-pubkey"] = thief.jwk()
    before = released(shared)
    expect(victim.attest(changed), 401, "AttestationError")
    changed["runtime-data"] = {**message["runtime-data"], "tee-pubkey": {**victim.jwk(), "x": thief.jwk()["x"]}}
    assert victim.attest(changed).status in (401, 422)
    assert released(shared) == before
    assert victim.attest(message).status == 200
    # nor by any field of a later request
    for body in ({"tee-pubkey": thief.jwk()}, {"jwk": thief.jwk()}, {"epk": thief.jwk()},
                 {"runtime-data": changed["runtime-data"]}):
        expect(victim.http.request("POST", "/kbs/v0/key/" + KEY, json.dumps(body),
                                   {"Content-Type": "application/json", **victim.cookies()}), 400)
    for query in ("?tee-pubkey=x", "?jwk=x"):
        expect(victim.get_key(KEY, query=query), 400)
    answer = victim.get_key(KEY, headers={**victim.cookies(), "Tee-Pubkey": json.dumps(thief.jwk())})
    assert answer.status == 200
    victim.open_jose(answer.json(), KEY + "/v1")


def test_token_of_one_session_with_the_cookie_of_another(shared):
    one, other = fresh(shared).handshake(), fresh(shared).handshake()
    before = released(shared)
    for token, cookie in ((one.token, other.cookies()), (other.token, one.cookies())):
        expect(one.get_key(KEY, headers={"Authorization": "Bearer " + token, **cookie}), 401, "TokenVerifierError")
    unattested = fresh(shared)
    unattested.auth()
    expect(one.get_key(KEY, headers={"Authorization": "Bearer " + one.token, **unattested.cookies()}), 401)
    assert released(shared) == before


def test_a_token_that_was_stolen_opens_nothing(shared):
    owner, thief = fresh(shared).handshake(), fresh(shared).handshake()
    answer = thief.get_key(KEY, headers={"Authorization": "Bearer " + owner.token})
    assert answer.status == 200  # a bearer token is one; but what it fetches is wrapped to its owner's key
    with pytest.raises(Exception):
        thief.open_jose(answer.json(), KEY + "/v1")
    owner.open_jose(answer.json(), KEY + "/v1")


def test_get_before_attest(shared):
    """One answer, whatever exists and however far the session has come."""
    shared.admin("secret", "set", "default/secret/one", "--policy", shared.policy_file(), input="value")
    guest = fresh(shared)
    guest.auth()
    unattested, unknown = guest.cookies(), {"Cookie": "kbs-session-id=" + "0" * 32}
    for headers in ({}, unattested, unknown):
        bodies = set()
        for method, road in (("POST", "key"), ("GET", "resource")):
            for path in (KEY, "default/disk/none", "default/secret/one", "default/secret/none"):
                answer = guest.http.request(method, f"/kbs/v0/{road}/{path}", headers=headers)
                expect(answer, 401)
                bodies.add(answer.body)
        assert len(bodies) == 1, bodies


# ---- listeners and methods ----

def test_admin_endpoints_on_the_guest_listener(shared):
    guest, admin = fresh(shared), Admin(shared)
    signed_by_admin = admin.http
    nothing = guest.http.request("GET", "/kbs/v0/nothing").body
    guests = {path for _, path in routes("GUEST")}
    before = len(shared.ledger())
    asked = 0
    for method, path in routes("ADMIN"):
        if path in guests:
            continue  # as /healthz; the method is the next test's
        answer = guest.http.request(method, path)
        expect(answer, 404)
        assert answer.body == nothing, path  # as if it had never been heard of
        asked += 1
    assert asked > 20
    # signed as an administrator signs: the nonce comes from the right listener, the request goes to the wrong one
    class Misled:
        def request(self, method, target, body=None, headers=None):
            to = signed_by_admin if target.endswith("/nonce") else guest.http
            return to.request(method, target, body, headers)
    admin.http = Misled()
    expect(admin.request("GET", "/kbs/v0/admin/keys"), 404)
    expect(admin.request("POST", "/kbs/v0/admin/keys", {"path": "a/b/c"}), 404)
    assert len(shared.ledger()) == before
    other = Http(shared.admin_url, shared.ca)
    admins = {path for _, path in routes("ADMIN")}
    for method, path in routes("GUEST"):
        if path not in admins:
            expect(other.request(method, path), 404)


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_methods_that_no_path_has(shared, method):
    guest = fresh(shared).handshake()
    before = len(shared.ledger())
    for path in sorted({path for _, path in routes("GUEST")}):
        answer = guest.http.request(method, path, headers=guest.cookies())
        assert answer.status == 405, (method, path)
        assert set(answer.headers["allow"].split(", ")) == {m for m, p in routes("GUEST") if p == path}
        assert (answer.body == b"") == (method == "HEAD")
    for override in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        expect(guest.http.request("GET", "/kbs/v0/key/" + KEY, headers={override: "POST", **guest.cookies()}), 405)
    assert len(shared.ledger()) == before


# ---- many ----

class From(Http):
    """A client of another address: the whole of 127.0.0.0/8 is ours."""

    def __init__(self, url, address):
        host, port = url.split("//")[1].split(":")
        self.connection = http.client.HTTPConnection(host, int(port), timeout=30, source_address=(address, 0))


def test_many_sessions(make_service):
    """A source that begins handshakes without end is told to wait; the store has a row for each that was let through,
    and nobody else notices."""
    service = make_service("softhsm")
    service.add_plain_listener()
    service.limit_auth(5)
    service.start()
    service.generate(KEY)

    def sessions():
        with sqlite3.connect(service.store_path, timeout=30) as store:
            return store.execute("select count(*) from session").fetchone()[0]

    def guest_of(address):
        guest = Guest(service.plain_url)
        guest.http = From(service.plain_url, address)
        return guest

    flood = guest_of("127.0.0.2")
    before, begin, statuses = sessions(), time.monotonic(), []
    while statuses.count(429) < 200:
        answer = flood.auth()
        statuses.append(answer.status)
        if answer.status == 429:
            expect(answer, 429, "TooManyRequests")
            assert answer.headers["retry-after"] == "1" and "set-cookie" not in answer.headers
    took = time.monotonic() - begin
    taken = statuses.count(200)
    assert statuses[:10] == [200] * 10 and set(statuses) == {200, 429}
    assert taken <= 10 + 5 * took + 1
    assert sessions() - before == taken
    other = guest_of("127.0.0.3").handshake()
    assert other.get_key(KEY).status == 200
    assert flood.attest().status == 200  # only new handshakes are counted
    assert wait_until(lambda: flood.auth().status == 200, 10, "a place for the flood")
    text = Http(service.guest_url, service.ca).request("GET", "/metrics").body.decode()
    assert int(re.search(r'^kbs_http_refused_total\{reason="auth-rate"\} (\d+)$', text, re.M)[1]) >= 200
