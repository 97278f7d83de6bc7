#!/usr/bin/env python3
"""A guest that floods the service with tampered requests.

    flood.py SECONDS [--token mock|nss|softhsm ...] [--rate N]

One attested guest, several keep-alive connections, requests pipelined. Each request is a good one with one thing wrong, of
every kind in which a guest can bring bytes to a token worker or near it: releases (nonce, salt, Accept, version, path, body,
cookie, token), TEE keys in an attestation (off their curve, coordinates >= p, wrong lengths, RSA moduli and exponents that
are none), handshakes; and releases with salts and to RSA keys that are strange and yet allowed, which the token has to deal
with. Valid releases go between them; each is opened and its key compared. Wanted: every answer is one of those that its
kind may have, none is lost, every valid release opens, judges and workers are those that were there, on the logins they
had. Prints rates and statuses per kind; exit status 1 if anything else happened, or if it was fewer than N tampered
requests a second (1000).
"""
import argparse
import base64
import collections
import hashlib
import json
import os
import pathlib
import random
import re
import select
import socket
import sys
import tempfile
import time
import urllib.parse

from cryptography.hazmat.primitives.asymmetric import rsa

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))
from kbsguest import Guest, b64u, jcs, kcv  # noqa: E402
from service import Service  # noqa: E402

PATH = "default/disk/vm1"
TARGET = "/kbs/v0/key/" + PATH
LANES = 2
CONNECTIONS = 4
PIPELINED = 8  # requests that a connection has under way
VALID_EVERY = 40  # requests
ANSWER_S = 30
SESSION_S = 60  # then all shake hands again, long before the session ends
P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1

Request = collections.namedtuple("Request", "kind data allowed check")


def http(method, target, body=b"", **headers):
    lines = [f"{method} {target} HTTP/1.1", "Host: kbs"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json"]
    if method == "POST":
        lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def flipped(text, rng):
    """Another text of the same alphabet (hex, base64url)."""
    at = rng.randrange(len(text))
    return text[:at] + rng.choice("0123456789abcdef".replace(text[at].lower(), "")) + text[at + 1:]


class Kinds:
    """Makers of tampered requests. Each gives (request, allowed statuses); `strange` ones may be answered with 200."""

    def __init__(self, guest, other, challenged, odd, rng):
        self.guest, self.other, self.challenged, self.odd, self.rng = guest, other, challenged, odd, rng
        self.makers = {name.replace("_", " ", 1): getattr(self, name) for name in dir(self)
                       if name.startswith(("release_", "attest_", "auth_", "resource_"))}

    def make(self):
        kind = self.rng.choice(list(self.makers))
        data, allowed = self.makers[kind]()
        return Request(kind, data, allowed, None)

    # ---- releases ----

    def cookie(self, of=None):
        return "kbs-session-id=" + (of or self.guest).cookie

    def release(self, body=b"", query="", accept="application/jose+json", target=TARGET, **headers):
        if not headers:
            headers = {"Cookie": self.cookie()}
        return http("POST", target + query, body, Accept=accept, **headers)

    def release_nonce(self):
        size = self.rng.choice([*range(32), *range(33, 64), 1000])
        nonce = self.rng.choice([b64u(os.urandom(size)), base64.b64encode(os.urandom(32)).decode(), 7, [],
                                 b64u(os.urandom(32))[:-1] + "!"])
        return self.release(json.dumps({"nonce": nonce}).encode()), {400}

    def release_salt(self):
        salt = self.rng.choice([b64u(os.urandom(self.rng.randrange(65, 1000))), "====", {}, -1])
        return self.release(json.dumps({"salt": salt}).encode(), accept="application/cose"), {400}

    def release_salt_strange(self):
        """Any bytes up to 64: they reach the token's HKDF."""
        salt = b64u(self.rng.choice([bytes(64), b"\xff" * 64, os.urandom(self.rng.randrange(65))]))
        return self.release(json.dumps({"salt": salt}).encode(), accept="application/cose"), {200}

    def release_accept(self):
        accept = self.rng.choice(["text/html", "application/cose;q=0", "application/jose", "/", ",;=", "\"" * 99,
                                  "application/cose-key", "application/jose+json;q=0", "x" * 900])
        return self.release(accept=accept), {400}

    def release_version(self):
        version = self.rng.choice(["0", "-1", "01", "4294967296", "1e1", "", "%31%00", "1&version=1", "9" * 40, "2"])
        return self.release(query="?version=" + version), {400, 404}

    def release_query(self):
        return self.release(query=self.rng.choice(["?context=some", "?context=", "?kid=1", "?context=none&context=none"])), {400}

    def release_path(self):
        path = self.rng.choice(["default/disk/vm2", "default/disk/..", "a/b/" + "c" * 300, "%00/%00/%00", "default/disk/vm1%2f",
                                "default/disk/%FF", "default%2Fdisk/vm1/x"])
        return self.release(target="/kbs/v0/key/" + path), {400, 404}

    def release_body(self):
        body = self.rng.choice([b"{", b"[]", b"null", b'{"nonce":"","nonce":""}', b'{"floor":"worker"}', b"\xff\xfe", b"{}" + bytes(9),
                                b'{"tee-pubkey":{}}', b"[" * 3000, os.urandom(64)])
        return self.release(body), {400}

    def release_cookie(self):
        return self.release(Cookie="kbs-session-id=" + flipped(self.guest.cookie, self.rng)), {401}

    def release_cookie_unattested(self):
        return self.release(Cookie=self.cookie(self.challenged)), {401}

    def release_token(self):
        parts = self.guest.token.split(".")
        at = self.rng.randrange(3)
        # The last character of a base64url text may have bits that count for nothing, and then is not canonical.
        parts[at] = flipped(parts[at][:-1], self.rng) + parts[at][-1]
        return self.release(Authorization="Bearer " + ".".join(parts)), {401}

    def release_token_none(self):
        header = b64u(jcs({"alg": "none", "typ": "JWT"}))
        text = self.rng.choice([f"{header}.{self.guest.token.split('.')[1]}.", "..", "x", self.guest.token + ".x"])
        return self.release(Authorization="Bearer " + text), {401}

    def release_token_and_cookie(self):
        return self.release(Authorization="Bearer " + self.guest.token, Cookie=self.cookie(self.other)), {401}

    def release_to_odd_rsa(self):
        """To a modulus or exponent that passes every check and is no RSA key."""
        return self.release(Cookie=self.cookie(self.rng.choice(self.odd))), {200, 422, 501}

    def resource_path(self):
        path = self.rng.choice(["no/such/secret", "default/disk/..", "a/b/%00"])
        return http("GET", "/kbs/v0/resource/" + path, Cookie=self.cookie()), {400, 404}

    # ---- TEE keys ----

    def attest(self, jwk, spoil=None, cookie=None):
        """Everything but the key is right: the report data too."""
        message = self.challenged.attestation(jwk)
        if spoil is not None:
            spoil(message)
        return http("POST", "/kbs/v0/attest", json.dumps(message).encode(), Cookie=cookie or self.cookie(self.challenged))

    def rsa_key(self, **changes):
        return {"kty": "RSA", "alg": "RSA-OAEP-256", "n": b64u(self.modulus(2048)), "e": "AQAB", **changes}

    def modulus(self, bits):
        """An odd number of that many bits."""
        return (self.rng.getrandbits(bits) | 1 << (bits - 1) | 1).to_bytes((bits + 7) // 8, "big")

    def attest_off_curve(self):
        curve, size = self.rng.choice([("P-256", 32), ("P-384", 48), ("P-521", 66)])
        return self.attest({**self.challenged.jwk(), "crv": curve, "x": b64u(bytes([0]) + os.urandom(size - 1)),
                            "y": b64u(bytes([0]) + os.urandom(size - 1))}), {422}

    def attest_coordinate(self):
        """x or y not below p, zero, or the point of the key with p added."""
        jwk = self.challenged.jwk()
        value = self.rng.choice([P256, P256 + 1, 2**256 - 1, 0, P256 - 1])
        jwk[self.rng.choice("xy")] = b64u(value.to_bytes(32, "big"))
        return self.attest(jwk), {422}

    def attest_length(self):
        jwk = self.challenged.jwk()
        jwk[self.rng.choice("xy")] = b64u(os.urandom(self.rng.choice([0, 1, 31, 33, 48, 64, 500])))
        return self.attest(jwk), {400}

    def attest_curve(self):
        return self.attest({**self.challenged.jwk(), "crv": self.rng.choice(["P-384", "P-521", "P-192", "secp256k1", "Ed25519", ""])}), {400, 422}

    def attest_member(self):
        return self.attest({**self.challenged.jwk(), **self.rng.choice([{"d": "AA"}, {"x": 1}, {"kty": "oct", "k": "AA"}, {"alg": "dir"},
                                                                         {"kty": "OKP"}, {"y": None}, {"alg": "RSA1_5"}])}), {400, 422}

    def attest_rsa_size(self):
        bits = self.rng.choice([8, 512, 1024, 2040, 4104, 8192])
        return self.attest(self.rsa_key(n=b64u(self.modulus(bits)))), {400, 422}

    def attest_rsa_modulus(self):
        odd = self.modulus(2048)
        n = self.rng.choice([odd[:-1] + bytes([odd[-1] & 0xFE]), bytes(256), bytes([0]) + odd, bytes([odd[0] & 0x7F]) + odd[1:], b""])
        return self.attest(self.rsa_key(n=b64u(n))), {400, 422}

    def attest_rsa_exponent(self):
        e = self.rng.choice([b"", b"\0", b"\1", b"\2", b"\1\0\0", b"\0\1\0\1", os.urandom(8) + b"\1" * 60, b"\4"])
        return self.attest(self.rsa_key(e=b64u(e))), {400, 422}

    # ---- handshakes ----

    def attest_report_data(self):
        def spoil(message):
            data = bytearray(base64.b64decode(message["tee-evidence"]["primary_evidence"]["report_data"]))
            data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            message["tee-evidence"]["primary_evidence"]["report_data"] = base64.b64encode(data).decode()
        return self.attest(None, spoil), {401}

    def attest_evidence(self):
        def spoil(message):
            message["tee-evidence"]["primary_evidence"] = self.rng.choice([None, [], "x", 1, {"svn": 1}, {"report_data": "!"}])
        return self.attest(None, spoil), {400, 401}

    def attest_nonce(self):
        def spoil(message):
            message["runtime-data"]["nonce"] = self.rng.choice(["", "AA==", self.guest.nonce, base64.b64encode(os.urandom(32)).decode()])
        return self.attest(None, spoil), {400, 401}

    def attest_twice(self):
        return self.attest(None, cookie=self.cookie()), {401}

    def attest_cookie(self):
        return self.attest(None, cookie="kbs-session-id=" + flipped(self.challenged.cookie, self.rng)), {401}

    def auth_version(self):
        body = {"version": self.rng.choice(["", "9.9.9", "0.4.0\0", "4" * 99]), "tee": "sample", "extra-params": ""}
        return http("POST", "/kbs/v0/auth", json.dumps(body).encode()), {400, 401}

    def auth_tee(self):
        body = {"version": "0.4.0", "tee": self.rng.choice(["", "vax", 1, None, ["sample"]]), "extra-params": ""}
        return http("POST", "/kbs/v0/auth", json.dumps(body).encode()), {400, 401}


class Valid:
    """Good releases, as JOSE or COSE, and what came of them."""

    def __init__(self, wanted_kcv):
        self.guest, self.kcv, self.checked, self.wrong = None, wanted_kcv, 0, []

    def make(self):
        guest, nonce, salt = self.guest, os.urandom(32), os.urandom(random.randrange(65))
        cose = random.randrange(2) == 1
        body = {"nonce": b64u(nonce), **({"salt": b64u(salt)} if cose else {})}
        data = http("POST", TARGET, json.dumps(body).encode(), Cookie="kbs-session-id=" + guest.cookie,
                    Accept="application/cose" if cose else "application/jose+json")

        def check(answer):
            kid = PATH + "/v1"
            key = (guest.open_cose(answer, kid, nonce, salt) if cose
                   else guest.open_jose(json.loads(answer), kid, nonce))[1]
            assert kcv(key) == self.kcv, "another key"
            self.checked += 1
        return Request("valid", data, {200}, check)


class Connection:
    """A socket with requests under way, in order. After an answer that says so (the front closes on a target that it does
    not take) the rest goes out again on another one."""

    def __init__(self, url):
        self.address = urllib.parse.urlsplit(url)
        self.under_way = collections.deque()
        self.open()

    def open(self):
        self.socket = socket.create_connection((self.address.hostname, self.address.port), timeout=ANSWER_S)
        self.buffer = b""
        self.socket.sendall(b"".join(r.data for r in self.under_way))

    def send(self, requests):
        self.under_way.extend(requests)
        self.socket.sendall(b"".join(r.data for r in requests))

    def receive(self):
        """Answers that are complete: [(request, status, body)]."""
        data = self.socket.recv(262144)
        if not data:
            raise ConnectionError(f"closed with {len(self.under_way)} requests under way, {self.under_way[0].kind} first")
        self.buffer += data
        found = []
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            length = int(re.search(rb"\r\ncontent-length: *(\d+)", head)[1])
            if len(self.buffer) < end + 4 + length:
                break
            found.append((self.under_way.popleft(), int(head.split()[1]), self.buffer[end + 4:end + 4 + length]))
            self.buffer = self.buffer[end + 4 + length:]
            if b"\r\nconnection: close" in head:
                self.socket.close()
                self.open()
        return found


def odd_rsa_guests(url, rng):
    """Attested guests whose RSA keys nobody has: random, tiny factors, all ones, largest exponents."""
    numbers = rsa.generate_private_key(65537, 3072).public_key().public_numbers()
    moduli = [(rng.getrandbits(2048) | 1 << 2047 | 1), 2**2048 - 1, 2**2047 + 1, 3 ** 1292 | 1 << 2047 | 1, numbers.n,
              2**4096 - 1, 2**3072 - 2**64 + 1]
    guests = []
    for n in moduli:
        for e in (3, 65537, 2**64 - 1):
            guest = Guest(url)
            assert guest.auth().status == 200
            jwk = {"kty": "RSA", "alg": rng.choice(["RSA-OAEP-256", "RSA-OAEP"]),
                   "n": b64u(n.to_bytes((n.bit_length() + 7) // 8, "big")), "e": b64u(e.to_bytes((e.bit_length() + 7) // 8, "big"))}
            message = guest.attestation(guest.jwk())
            text = jcs({"tee-pubkey": jwk, "nonce": guest.nonce, "additional-evidence": ""})
            message["runtime-data"]["tee-pubkey"] = jwk
            message["tee-evidence"]["primary_evidence"]["report_data"] = base64.b64encode(hashlib.sha384(text).digest()).decode()
            answer = guest.attest(message)
            assert answer.status == 200, (jwk, answer.status, answer.body)
            guest.close()
            guests.append(guest)
    return guests


class Flood:
    def __init__(self, service, made, seed):
        self.rng, self.url = random.Random(seed), service.plain_url
        self.valid = Valid(made["kcv"])
        self.handshake()
        self.connections = [Connection(self.url) for _ in range(CONNECTIONS)]
        self.statuses = collections.defaultdict(collections.Counter)
        self.strange, self.sent = [], 0

    def handshake(self):
        guest, other, challenged = Guest(self.url).handshake(), Guest(self.url).handshake(), Guest(self.url)
        assert challenged.auth().status == 200
        self.kinds = Kinds(guest, other, challenged, odd_rsa_guests(self.url, self.rng), self.rng)
        self.valid.guest = guest
        self.renew_at = time.monotonic() + SESSION_S

    def batch(self):
        if time.monotonic() > self.renew_at:
            self.handshake()
        requests = []
        for _ in range(PIPELINED):
            self.sent += 1
            requests.append(self.valid.make() if self.sent % VALID_EVERY == 0 else self.kinds.make())
        return requests

    def take(self, request, status, body):
        self.statuses[request.kind][status] += 1
        if status not in request.allowed:
            self.strange.append((request.kind, status, body[:200], request.data[:300]))
        elif request.check is not None:
            try:
                request.check(body)
            except Exception as error:  # whatever is wrong with it: it said 200
                self.valid.wrong.append(repr(error))

    def run(self, seconds):
        for connection in self.connections:
            connection.send(self.batch())
        begun = time.monotonic()
        busy = self.connections
        while busy:
            ready = select.select([c.socket for c in busy], [], [], ANSWER_S)[0]
            assert ready, "no answer in time"
            for connection in [c for c in busy if c.socket in ready]:
                for request, status, body in connection.receive():
                    self.take(request, status, body)
                if not connection.under_way and time.monotonic() - begun < seconds:
                    connection.send(self.batch())
            busy = [c for c in busy if c.under_way]
        self.seconds = time.monotonic() - begun
        for connection in self.connections:
            connection.socket.close()


def lane_pids(service):
    return sorted((r["unit"], r["role"], r["pid"]) for r in service.roles() if r["role"] in ("kbs-judge", "kbs-token"))


def logins(service):
    return service.log_text().count("event=login-granted")


def report(token, flood, before, after, login_counts, least):
    total = sum(sum(c.values()) for c in flood.statuses.values())
    tampered = total - sum(flood.statuses["valid"].values())
    rate = tampered / flood.seconds
    print(f"{token}: {tampered} tampered requests in {flood.seconds:.1f} s, {rate:.0f} a second, of {len(flood.statuses) - 1} kinds")
    for kind, counts in sorted(flood.statuses.items()):
        n = sum(counts.values())
        print(f"    {kind:<28} {n / flood.seconds:6.0f}/s  " + ", ".join(f"{s}: {c}" for s, c in sorted(counts.items())))
    print(f"    {flood.sent - total} unanswered, {len(flood.strange)} unexpected; {flood.valid.checked} valid releases opened, "
          f"{len(flood.valid.wrong)} wrong")
    print(f"    judges and workers before: {' '.join(str(p[2]) for p in before)}, after: {' '.join(str(p[2]) for p in after)}; "
          f"logins {login_counts[0]} and {login_counts[1]}", flush=True)
    for what in [*flood.strange[:5], *flood.valid.wrong[:3]]:
        print("   ", what)
    return (before == after and login_counts[0] == login_counts[1] and flood.sent == total and rate >= least
            and not flood.strange and not flood.valid.wrong and flood.valid.checked > 0
            and set(flood.statuses) == {*flood.kinds.makers, "valid"})


def flood(token, seconds, least, folder):
    service = Service(pathlib.Path(folder) / token, token, LANES)
    service.add_plain_listener()
    try:
        service.start()
        made = service.generate(PATH)
        before = lane_pids(service), logins(service)
        one = Flood(service, made, seconds)
        one.run(seconds)
        service.ledger()  # asserts that the chain holds
        return report(token, one, before[0], lane_pids(service), (before[1], logins(service)), least)
    except BaseException:
        print(service.log_text()[-5000:], file=sys.stderr)
        raise
    finally:
        service.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=int)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--token", action="append", choices=["mock", "nss", "softhsm"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kbs-flood-") as folder:
        results = [flood(token, arguments.seconds, arguments.rate, folder)
                   for token in arguments.token or ["mock", "nss", "softhsm"]]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
