"""kbs-front from outside: the real executable, a played kbsd, played judges."""
import json
import os
import re
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from harness import (ADMIN, DETACH, DRAIN, GO, LANE, LISTENER_PLAIN, READY, RESPONSE, TLS_KEY, Credentials, Front,  # noqa: E402
                     frame, response_body)

ID = b"0123456789abcdef0123456789abcdef"
KEY = "/kbs/v0/key/repo/type/tag"


@pytest.fixture(scope="session")
def credentials(tmp_path_factory):
    return Credentials(str(tmp_path_factory.mktemp("tls")))


def error_type(answer):
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body)
    assert set(body) == {"type", "detail"}
    return body["type"].rsplit("/", 1)[1]


def check_busy(answer):
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    error_type(answer)


# One request, all its fields, all transports.

def exchange(client, judge):
    body = b'{"nonce":"x"}'
    client.send_post(KEY + "?version=3&context=none", body,
                     b"Cookie: a=b; kbs-session-id=" + ID + b"\r\nAuthorization: Bearer t\r\n"
                     b"Accept: application/cose\r\nContent-Type: application/json\r\nKbs-Signature: s.i.g\r\n"
                     b"Kbs-Proof: p.r.f\r\n")
    request = judge.request()
    assert (request.route, request.listener, request.method) == (3, 1, b"POST")
    assert request.target == (KEY + "?version=3&context=none").encode()
    assert request.params == [b"repo", b"type", b"tag"]
    assert request.query == [b"version", b"3", b"context", b"none"]
    assert (request.cookie, request.authorization, request.accept) == (ID, b"Bearer t", b"application/cose")
    assert (request.content_type, request.signature, request.body) == (b"application/json", b"s.i.g", body)
    assert request.proof == b"p.r.f"
    assert 0 < request.deadline_ns < 2**63
    judge.answer(request, content_type=b"application/cose", cookie=ID, expires=951782399, body=b"\x00\xff" * 1000)
    answer = client.answer()
    assert answer.status == 200
    assert answer.headers.pop("date").endswith(" GMT")
    assert answer.headers == {
        "cache-control": "no-store", "content-type": "application/cose", "content-length": "2000",
        "set-cookie": f"kbs-session-id={ID.decode()}; Path=/; HttpOnly; Expires=Mon, 28 Feb 2000 23:59:59 GMT",
        "connection": "keep-alive"}
    assert answer.body == b"\x00\xff" * 1000
    return request


def test_plain(credentials):
    with Front() as front, front.connect() as client:
        for _ in range(3):  # keep-alive
            assert re.fullmatch(rb"127\.0\.0\.1:\d+", exchange(client, front.judges[0]).peer)


def test_unix():
    with Front() as front, front.connect_unix() as client:
        assert exchange(client, front.judges[0]).peer == b"unix"


def test_tls(credentials):
    with Front(credentials=credentials) as front, front.connect_tls() as client:
        assert client.sock.version() == "TLSv1.3"
        for _ in range(3):
            exchange(client, front.judges[0])


def test_tls_refusals(credentials):
    with Front(credentials=credentials) as front:
        with pytest.raises(ssl.SSLError):
            front.connect_tls(maximum_version=ssl.TLSVersion.TLSv1_2)
        with socket.create_connection(front.tls.getsockname(), 10) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n")
            assert not sock.recv(100).startswith(b"HTTP")
        context = ssl.create_default_context(cafile=credentials.cert)
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(front.tls.getsockname(), 10) as sock, pytest.raises(ssl.SSLError):
            context.wrap_socket(sock, server_hostname="127.0.0.1")
        assert front.metrics()['kbs_http_refused_total{reason="tls"}'] == 3
        with front.connect_tls() as client:
            exchange(client, front.judges[0])


def test_ipv6_peer():
    with Front(start=False) as front:
        try:
            front.plain.close()
            front.plain = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("no IPv6 here")
        front.configure()
        front.go()
        judge = front.attach_lane(0)
        with front.connect() as client:
            client.send_post("/kbs/v0/auth", b"{}")
            request = judge.request()
            assert re.fullmatch(rb"\[::1\]:\d+", request.peer)
            judge.answer(request)
            assert client.answer().status == 200


def test_large_bodies_both_ways(credentials):
    body = os.urandom(2 << 20)
    big = os.urandom(3 << 20)
    with Front(credentials=credentials) as front:
        front.judges[0].serve(lambda r: {"body": big if r.body == body else b"different"})
        for connect in front.connect, front.connect_unix, front.connect_tls:
            with connect() as client:
                assert client.post("/kbs/v0/attest", body).body == big
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c)
                                  for c in (body[i:i + 100000] for i in range(0, len(body), 100000)))
                client.send(b"POST /kbs/v0/attest HTTP/1.1\r\nHost: kbs\r\nTransfer-Encoding: chunked\r\n\r\n"
                            + chunks + b"0\r\n\r\n")
                assert client.answer().body == big


def test_byte_by_byte():
    with Front() as front, front.connect() as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nContent-Length: 2\r\n\r\n{}":
            client.send(bytes([byte]))
        request = front.judges[0].request()
        assert request.body == b"{}"
        front.judges[0].answer(request)
        assert client.answer().status == 200


# Pipelining: one at a time, in order, the rest waits.

def test_pipelining():
    with Front(lanes=2) as front, front.connect() as client:
        for n in range(20):
            client.send_post("/kbs/v0/auth", b"%d" % n)
        for n in range(20):
            request = front.judges[0].request()
            assert request.body == b"%d" % n
            assert front.judges[1].idle()  # the second lane is free, and yet the next one waits for this answer
            front.judges[0].answer(request, body=request.body)
            assert client.answer().body == b"%d" % n


def test_pipelined_flood():
    """More than is buffered: the socket is left alone until there is room, and nothing is lost."""
    with Front() as front, front.connect() as client:
        n = 20000
        front.judges[0].serve()
        client.sock.setblocking(False)
        out = b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n" * n + b"GET /x HTTP/1.1\r\nHost: kbs\r\n\r\n"
        answers, tail = 0, b""
        while not tail.endswith(b'path"}'):
            try:
                out = out[client.sock.send(out[:65536]):]
            except BlockingIOError:
                pass
            try:
                data = tail + client.sock.recv(65536)
                answers += data.count(b"HTTP/1.1 200 OK")
                tail = data[-14:] if data.count(b"HTTP/1.1 200 OK", len(data) - 14) == 0 else b""
            except BlockingIOError:
                pass
        assert answers == n


def test_pipelined_bytes_behind_a_waiting_request_are_bounded():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        request = front.judges[0].request()
        client.sock.settimeout(0.5)
        sent = 0
        with pytest.raises(socket.timeout):
            while sent < 64 << 20:
                sent += client.sock.send(b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n" * 1000)
        front.judges[0].answer(request)
        client.sock.settimeout(10)
        assert client.answer().status == 200
        assert client.answer().status == 200


# Refusals.

@pytest.mark.parametrize("data, status", [
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    (b"\x00\x01\x02", 400),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n", 400),
    (b"POST /kbs/v0/auth HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"POST /kbs/v0/auth HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
    (b"POST /kbs/v0/attest HTTP/1.1\r\nHost: a\r\nContent-Length: 2097153\r\n\r\n" + b"x" * 100000, 413),
    (b"POST /kbs/v0/nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000, 404),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 16384 + b"\r\n\r\n", 431),
    (b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 64 + b"\r\n", 431),
    (b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"POST /kbs/v0/auth HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", 417),
])
def test_refused_and_closed(data, status):
    with Front() as front, front.connect() as client:
        client.send(data)
        answer = client.answer()
        assert answer.status == status
        assert answer.headers["connection"] == "close"
        error_type(answer)
        assert client.closed()
        assert front.judges[0].idle()


def test_refused_and_kept():
    with Front() as front, front.connect() as client:
        answer = client.get("/nothing")
        assert (answer.status, error_type(answer)) == (404, "InvalidRequestPath")
        answer = client.get("/kbs/v0/auth")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        client.send(b"HEAD /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n")
        answer = client.answer(head_only=True)
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
        assert client.get("/healthz").status == 200


def test_listener_kinds():
    with Front(listener=ADMIN) as front, front.connect() as client:
        assert client.post("/kbs/v0/auth", b"").status == 404
        client.send(b"GET /kbs/v0/admin/nonce HTTP/1.1\r\nHost: kbs\r\n\r\n")
        request = front.judges[0].request()
        assert (request.route, request.listener, request.method) == (32, 2, b"GET")
        front.judges[0].answer(request)
        assert client.answer().status == 200
        assert client.get("/healthz").status == 200
    with Front() as front, front.connect() as client:
        assert client.get("/kbs/v0/admin/nonce").status == 404


def test_expect_continue():
    with Front() as front, front.connect() as client:
        front.judges[0].serve()
        client.send(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"[]")
        assert client.answer().body == b"[]"


def test_connection_close():
    with Front() as front:
        front.judges[0].serve()
        with front.connect() as client:
            answer = client.post("/kbs/v0/auth", b"{}", b"Connection: close\r\n")
            assert answer.headers["connection"] == "close"
            assert client.closed()
        with front.connect() as client:
            client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert client.answer().headers["connection"] == "close"
            assert client.closed()


# The front's own routes.

def test_health_ready_metrics():
    with Front(attach=False) as front, front.connect() as client:
        answer = client.get("/healthz")
        assert (answer.status, answer.body) == (200, b"")
        answer = client.get("/readyz")
        check_busy(answer)
        judge = front.attach_lane(0)
        front.until("kbs_lanes_attached", 1)
        assert client.get("/readyz").status == 200
        client.send_post("/kbs/v0/auth", b"{}")
        request = judge.request()
        metrics = front.metrics()
        assert (metrics["kbs_lanes_busy"], metrics["kbs_queue_length"]) == (1, 0)
        judge.answer(request, status=401)
        assert client.answer().status == 401
        client.get("/secret-path?secret=1")
        metrics = front.metrics()
        assert metrics['kbs_http_requests_total{route="auth",status="401"}'] == 1
        assert metrics['kbs_http_requests_total{route="readyz",status="503"}'] == 1
        assert metrics['kbs_http_refused_total{reason="path"}'] == 1
        assert metrics["kbs_http_active_connections"] == 2
        assert not any("secret" in name for name in metrics)
        judge.close()
        front.until("kbs_lanes_attached", 0)
        check_busy(client.get("/readyz"))


def exposition(text):
    """A strict reader of the text format, version 0.0.4: {family: (type, {(suffix, labels): value})}."""
    families, family = {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(r"# HELP ([a-z_]+) ([^\\\n]+)", line):
            family = match[1]
            assert family not in families, f"{family} twice"
            families[family] = [None, {}]
        elif match := re.fullmatch(r"# TYPE ([a-z_]+) (counter|gauge|histogram)", line):
            assert match[1] == family and families[family] == [None, {}]
            families[family][0] = match[2]
        else:
            match = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z_]+="[^"\\\n]*",?)*)\})? ([0-9]+(?:\.[0-9]+)?)', line)
            assert match, line
            kind, samples = families[family]
            suffix = match[1][len(family):]
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1].startswith(family) and suffix in suffixes, line
            labels = tuple(re.findall(r'([a-z_]+)="([^"]*)"', match[2] or ""))
            assert (suffix, labels) not in samples, line
            samples[suffix, labels] = float(match[3])
    for name, (kind, samples) in families.items():
        assert kind, name
        assert kind != "counter" or name.endswith("_total"), name
        if kind == "histogram":
            buckets = [(float(labels[0][1]), n) for (suffix, labels), n in samples.items() if suffix == "_bucket"]
            assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets)
            assert buckets[-1] == (float("inf"), samples["_count", ()])
    return families


def test_metrics_are_well_formed_and_name_nobody():
    with Front(auth_per_s=1) as front, front.connect() as client:
        front.judges[0].serve(lambda r: {"status": 401 if b"bad" in r.body else 200, "body": b"x" * 100})
        auths = [client.post("/kbs/v0/auth", body, b"Cookie: kbs-session-id=" + ID + b"\r\n").status
                 for body in (b"{}", b"bad", b"over the limit")]
        for body in b"{}", b"bad", b"good":
            client.post("/kbs/v0/attest", body)
        client.post("/kbs/v0/key/secretrepo/secrettype/secrettag?version=7", b"{}", b"Authorization: Bearer sesame\r\n")
        client.get("/kbs/v0/resource/secretrepo/secrettype/secrettag")
        client.get("/secretpath/%22")
        client.get("/kbs/v0/resource/secretrepo/secrettype/secret%22tag")
        client.send(b"DELETE /kbs/v0/auth HTTP/1.1\r\nHost: secrethost\r\n\r\n")
        client.answer()
        text = client.get("/metrics").body.decode("ascii")
    families = exposition(text)
    one = {name: samples["", ()] for name, (_, samples) in families.items() if ("", ()) in samples}
    assert auths[:2] == [200, 401]
    assert [one[f"kbs_auth_{x}_total"] for x in ("requests", "successes", "errors")] == [
        3, auths.count(200), 3 - auths.count(200)]
    assert [one[f"kbs_attestation_{x}_total"] for x in ("requests", "successes", "failures", "errors")] == [3, 2, 1, 0]
    assert one["kbs_resource_reads_total"] == 2 and one["kbs_auth_sources"] <= 1 and one["kbs_auth_uncounted_total"] == 0
    requests = sum(families["kbs_http_requests_total"][1].values())
    assert requests == 11
    for name in "kbs_http_request_duration_seconds", "kbs_http_request_size_bytes", "kbs_http_response_size_bytes":
        assert families[name][1]["_count", ()] == requests
    assert families["kbs_http_request_size_bytes"][1]["_sum", ()] == sum(map(len, (
        b"{}", b"bad", b"over the limit", b"{}", b"bad", b"good", b"{}")))
    # every label is from a closed list
    labels = {label for _, samples in families.values() for _, pairs in samples for label in pairs}
    assert {name for name, _ in labels} == {"route", "status", "reason", "le", "version", "outcome"}
    assert {value for name, value in labels if name == "route"} == {"auth", "attest", "key-release", "resource", "none"}
    for secret in ("secret", "sesame", ID.decode(), "version=7", "127.0.0.1"):
        assert secret not in text
    if shutil.which("promtool"):  # it warns of counts without a unit, too: only what is no exposition counts
        done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert "error while linting" not in done.stderr and done.returncode in (0, 3), done.stderr


# Limits that an operator sets.

def check_limited(answer):
    assert answer.status == 429
    assert answer.headers["retry-after"] == "1" and answer.headers["connection"] == "keep-alive"
    assert error_type(answer) == "TooManyRequests"


def test_handshakes_of_one_source_are_limited():
    with Front(auth_per_s=3) as front, front.connect() as client, front.connect() as other, front.connect_unix() as unix:
        seen = []
        front.judges[0].serve(lambda r: seen.append(r.route) or {})
        begin = time.monotonic()
        statuses = []
        while len(statuses) < 20:
            statuses.append(client.post("/kbs/v0/auth", b"{}").status)
        took = time.monotonic() - begin
        assert set(statuses) == {200, 429} and statuses[:6] == [200] * 6
        assert 6 <= statuses.count(200) <= 6 + 3 * took + 1
        assert seen == [1] * statuses.count(200)  # the others took no lane
        client.send_post("/kbs/v0/auth", b"{}")
        limited = client.answer()
        if limited.status == 429:  # unless the machine was so slow that another was due
            check_limited(limited)
            check_limited(other.post("/kbs/v0/auth", b"{}"))  # another connection is the same source
        assert client.post("/kbs/v0/attest", b"{}").status == 200  # only handshakes are counted
        assert unix.post("/kbs/v0/auth", b"{}").status == 200  # another source
        metrics = front.metrics()
        assert metrics['kbs_http_refused_total{reason="auth-rate"}'] >= statuses.count(429)
        assert metrics['kbs_http_requests_total{route="auth",status="429"}'] >= statuses.count(429)


def test_a_source_is_let_in_again():
    with Front(auth_per_s=1) as front, front.connect() as client:
        front.judges[0].serve()
        statuses = [client.post("/kbs/v0/auth", b"{}").status for _ in range(3)]
        assert statuses[:2] == [200, 200]
        end = time.monotonic() + 10
        while client.post("/kbs/v0/auth", b"{}").status != 200:  # each a request: progress enough
            assert time.monotonic() < end


def test_no_limit_of_handshakes():
    with Front() as front, front.connect() as client:
        front.judges[0].serve()
        assert {client.post("/kbs/v0/auth", b"{}").status for _ in range(500)} == {200}
        assert front.metrics()["kbs_auth_sources"] == 0


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_bytes(framing):
    def send(client, target, body):
        if framing == "length":
            client.send_post(target, body)
        else:
            client.send(b"POST " + target.encode() + b" HTTP/1.1\r\nHost: kbs\r\nTransfer-Encoding: chunked\r\n\r\n"
                        + (b"%x\r\n%s\r\n" % (len(body), body)) + b"0\r\n\r\n")
        return client.answer()

    with Front(body_bytes=10000) as front:
        front.judges[0].serve(lambda r: {"body": b"%d" % len(r.body)})
        with front.connect() as client:
            assert send(client, "/kbs/v0/attest", b"x" * 10000).body == b"10000"
            answer = send(client, "/kbs/v0/attest", b"x" * 10001)
            assert answer.status == 413 and error_type(answer) == "TooLarge"
            assert answer.headers["connection"] == "close"
        with front.connect() as client:  # the route's own bound is lower
            assert send(client, KEY, b"x" * 8192).status == 200
            assert send(client, KEY, b"x" * 8193).status == 413


def test_log_lines():
    with Front() as front, front.connect() as client:
        front.judges[0].serve()
        client.post(KEY, b"{}", b"Cookie: kbs-session-id=" + ID + b"\r\nAuthorization: Bearer sesame\r\n")
        for _ in range(100):
            client.get("/secret-path")
        front.until("kbs_http_active_connections", 2)
        log = front.log()
        assert len(re.findall(r"event=request route=key-release status=200 us=\d+ lane=0", log)) == 1
        assert log.count("reason=path") < 5
        for secret in (ID.decode(), "sesame", "secret-path", "repo"):
            assert secret not in log


# Lanes.

def test_no_lane():
    with Front(attach=False) as front, front.connect() as client:
        check_busy(client.post("/kbs/v0/auth", b"{}"))
        judge = front.attach_lane(0)
        judge.serve()
        front.until("kbs_lanes_attached", 1)
        assert client.post("/kbs/v0/auth", b"{}").status == 200


def test_lane_dies_and_is_replaced():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        front.judges[0].close()
        check_busy(client.answer())
        client.send_post("/kbs/v0/auth", b"{}")  # waits for the next one
        front.until("kbs_queue_length", 1)
        front.attach_lane(0).serve()
        assert client.answer().status == 200


def test_lane_dies_in_the_middle_of_its_answer():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        request = front.judges[0].request()
        front.judges[0].sock.sendall(frame(RESPONSE, request.id, response_body(body=b"x" * 5000))[:3000])
        front.judges[0].close()
        check_busy(client.answer())


def test_one_of_two_lanes_dies():
    with Front(lanes=2) as front, front.connect() as a, front.connect() as b:
        a.send_post("/kbs/v0/auth", b"a")
        first = front.judges[0].request()
        b.send_post("/kbs/v0/auth", b"b")
        second = front.judges[1].request()
        assert (first.body, second.body) == (b"a", b"b")
        front.judges[0].close()
        check_busy(a.answer())
        front.judges[1].answer(second)
        assert b.answer().status == 200
        a.send_post("/kbs/v0/auth", b"again")
        request = front.judges[1].request()
        front.judges[1].answer(request)
        assert a.answer().status == 200


def test_a_lane_is_replaced_while_it_works():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        judge = front.attach_lane(0)
        check_busy(client.answer())
        assert front.judges[0].closed()
        client.send_post("/kbs/v0/auth", b"{}")
        request = judge.request()
        judge.answer(request)
        assert client.answer().status == 200


BREACHES = {
    "wrong id": lambda r: frame(RESPONSE, r.id + 1, response_body()),
    "wrong type": lambda r: frame(READY, r.id, b"\0\0\0\0"),
    "wrong version": lambda r: frame(RESPONSE, r.id, response_body()).replace(b"\1\0", b"\2\0", 1),
    "unknown type": lambda r: frame(999, r.id, b""),
    "oversized": lambda r: struct.pack("<IHHQQQ", 2**32 - 1, 1, RESPONSE, r.id, 0, 0),
    "cut short": lambda r: frame(RESPONSE, r.id, response_body()[:-1]),
    "left over": lambda r: frame(RESPONSE, r.id, response_body() + b"x"),
    "garbage": lambda r: b"\xff" * 64,
    "status 99": lambda r: frame(RESPONSE, r.id, response_body(status=99)),
    "status 100": lambda r: frame(RESPONSE, r.id, response_body(status=100)),
    "status 1000": lambda r: frame(RESPONSE, r.id, response_body(status=1000)),
    "header injection": lambda r: frame(RESPONSE, r.id, response_body(content_type=b"a/b\r\nX: y")),
    "cookie injection": lambda r: frame(RESPONSE, r.id, response_body(cookie=b"x" * 30 + b"\r\n")),
    "receipt injection": lambda r: frame(RESPONSE, r.id, response_body(receipt=b"ab.c\r\nX: y")),
    "receipt of other characters": lambda r: frame(RESPONSE, r.id, response_body(receipt=b"ab=")),
    "receipt too long": lambda r: frame(RESPONSE, r.id, response_body(receipt=b"x" * 3073)),
    "body too long": lambda r: frame(RESPONSE, r.id, response_body(body=b"x" * ((3 << 20) + 1))),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_lane_breaks_the_schema(breach):
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        request = front.judges[0].request()
        try:
            front.judges[0].sock.sendall(BREACHES[breach](request))
        except (BrokenPipeError, ConnectionResetError):
            pass
        check_busy(client.answer())
        assert front.judges[0].closed()
        assert front.metrics()['kbs_http_refused_total{reason="lane-breach"}'] == 1


def test_lane_speaks_unasked():
    with Front() as front:
        front.judges[0].sock.sendall(frame(RESPONSE, 0, response_body()))
        assert front.judges[0].closed()
        assert front.metrics()['kbs_http_refused_total{reason="lane-breach"}'] == 1


def test_lane_answers_twice():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        request = front.judges[0].request()
        front.judges[0].sock.sendall(2 * frame(RESPONSE, request.id, response_body()))
        assert client.answer().status == 200
        assert front.judges[0].closed()


def test_queue_is_fifo_and_bounded():
    with Front(max_connections=128) as front:
        clients = [front.connect() for _ in range(67)]
        clients[0].send_post("/kbs/v0/auth", b"0")
        request = front.judges[0].request()
        for n in range(1, 65):
            clients[n].send_post("/kbs/v0/auth", b"%d" % n)
            front.until("kbs_queue_length", n)
        for n in (65, 66):
            check_busy(clients[n].post("/kbs/v0/auth", b"x"))
        for n in range(65):
            front.judges[0].answer(request, body=b"%d" % n)
            assert clients[n].answer().body == b"%d" % n
            if n < 64:
                request = front.judges[0].request()
                assert request.body == b"%d" % (n + 1)
        for client in clients:
            assert client.get("/healthz").status == 200
            client.sock.close()


def test_queue_waits_for_the_next_lane():
    """The death of the only lane costs the request that it had, and no other."""
    with Front() as front:
        clients = [front.connect() for _ in range(5)]
        for n, client in enumerate(clients):
            client.send_post("/kbs/v0/auth", b"%d" % n)
            front.until("kbs_queue_length", n)
        front.judges[0].request()
        front.judges[0].close()
        check_busy(clients[0].answer())
        assert clients[0].get("/readyz").status == 503
        clients[0].send_post("/kbs/v0/auth", b"0")
        front.until("kbs_queue_length", 5)
        front.attach_lane(0).serve()
        for n, client in enumerate(clients):
            assert client.answer().body == b"%d" % n
            client.sock.close()


def test_queue_fails_when_no_lane_comes_back():
    with Front(program="kbs-front-fast") as front:
        clients = [front.connect() for _ in range(3)]
        for client in clients:
            client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        front.judges[0].close()
        for client in clients:
            check_busy(client.answer())
            client.sock.close()
        with front.connect() as client:
            for _ in range(2):  # the first one may still have waited
                check_busy(client.post("/kbs/v0/auth", b"{}"))
            assert front.metrics()['kbs_http_refused_total{reason="no-lane"}'] >= 1
            front.attach_lane(0).serve()
            front.until("kbs_lanes_attached", 1)
            assert client.post("/kbs/v0/auth", b"{}").status == 200


def test_leaving_lane_takes_no_further_request():
    """A judge that leaves closes its reading side before its last answer; what waits goes to the next lane."""
    with Front() as front, front.connect() as a, front.connect() as b:
        a.send_post("/kbs/v0/auth", b"a")
        request = front.judges[0].request()
        b.send_post("/kbs/v0/auth", b"b")
        front.until("kbs_queue_length", 1)
        front.judges[0].sock.shutdown(socket.SHUT_RD)
        front.judges[0].answer(request, body=b"last")
        assert a.answer().body == b"last"
        front.until("kbs_lanes_attached", 0)
        a.send_post("/kbs/v0/auth", b"again")
        front.until("kbs_queue_length", 2)
        front.attach_lane(0).serve()
        assert b.answer().body == b"b"
        assert a.answer().body == b"again"


def test_detached_lane_finishes_its_request():
    """kbsd wants the only lane back: what is in flight is answered, what waits goes to the next lane, nothing fails."""
    with Front() as front, front.connect() as a, front.connect() as b:
        a.send_post("/kbs/v0/auth", b"a")
        request = front.judges[0].request()
        b.send_post("/kbs/v0/auth", b"b")
        front.until("kbs_queue_length", 1)
        front.detach_lane(0)
        front.until_log("event=lane-detached lane=0 busy=1")
        assert front.metrics()["kbs_lanes_attached"] == 1
        front.judges[0].answer(request, body=b"last")
        assert a.answer().body == b"last"
        assert front.judges[0].closed()
        assert a.get("/readyz").status == 200
        a.send_post("/kbs/v0/auth", b"again")
        front.until("kbs_queue_length", 2)
        front.attach_lane(0).serve()
        assert b.answer().body == b"b"
        assert a.answer().body == b"again"
        assert "lane-closed" not in front.log()


def test_detached_lane_that_is_idle_is_closed():
    with Front() as front, front.connect() as client:
        front.detach_lane(0)
        assert front.judges[0].closed()
        front.detach_lane(0)  # it is gone already
        client.send_post("/kbs/v0/auth", b"{}")
        front.until("kbs_queue_length", 1)
        front.attach_lane(0).serve()
        assert client.answer().status == 200


def test_detached_lane_of_two():
    with Front(lanes=2) as front, front.connect() as a, front.connect() as b:
        a.send_post("/kbs/v0/auth", b"a")
        first = front.judges[0].request()
        front.detach_lane(0)
        front.until_log("event=lane-detached")
        b.send_post("/kbs/v0/auth", b"b")
        second = front.judges[1].request()
        front.judges[0].answer(first, body=b"a")
        assert a.answer().body == b"a"
        assert front.judges[0].closed()
        a.send_post("/kbs/v0/auth", b"waits for the other")
        front.until("kbs_queue_length", 1)
        front.judges[1].answer(second, body=b"b")
        assert b.answer().body == b"b"
        front.judges[1].answer(front.judges[1].request(), body=b"served")
        assert a.answer().body == b"served"


def test_detached_lane_that_dies_costs_its_request():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        front.detach_lane(0)
        front.until_log("event=lane-detached")
        front.judges[0].close()
        check_busy(client.answer())


def test_detached_lane_that_does_not_come_back():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        front.detach_lane(0)
        assert front.judges[0].closed()
        check_busy(client.post("/kbs/v0/auth", b"{}"))
        assert client.get("/readyz").status == 503


def test_drain_with_a_queue_and_no_lane():
    with Front(program="kbs-front-fast") as front, front.connect() as a, front.connect() as b:
        a.send_post("/kbs/v0/auth", b"a")
        front.judges[0].request()
        b.send_post("/kbs/v0/auth", b"b")
        front.judges[0].close()
        front.drain()
        for client in (a, b):
            check_busy(client.answer())
            assert client.closed()
        assert front.wait() == 0


# Clients that leave.

def test_client_leaves_while_its_request_is_in_a_lane():
    with Front() as front:
        with front.connect() as client:
            client.send_post("/kbs/v0/auth", b"first")
            request = front.judges[0].request()
        front.until('kbs_http_refused_total{reason="disconnected"}', 1)
        with front.connect() as client:
            client.send_post("/kbs/v0/auth", b"second")
            front.until("kbs_queue_length", 1)
            front.judges[0].answer(request, body=b"for the first")
            request = front.judges[0].request()
            assert request.body == b"second"
            front.judges[0].answer(request, body=b"for the second")
            assert client.answer().body == b"for the second"


def test_client_leaves_while_its_request_waits():
    with Front() as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"first")
        request = front.judges[0].request()
        with front.connect() as gone:
            gone.send_post("/kbs/v0/auth", b"gone")
            front.until("kbs_queue_length", 1)
        front.until("kbs_queue_length", 0)
        front.judges[0].answer(request)
        assert client.answer().status == 200
        client.send_post("/kbs/v0/auth", b"next")
        assert front.judges[0].request().body == b"next"


@pytest.mark.parametrize("start", [b"", b"POST", b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nContent-Length: 9\r\n\r\n{"])
def test_client_leaves_in_the_middle(start):
    with Front() as front:
        with front.connect() as client:
            client.send(start)
        front.until("kbs_http_active_connections", 1)
        assert front.judges[0].idle()


def test_client_does_not_read():
    """An answer that does not fit the kernel's buffers waits; others are served meanwhile."""
    with Front(lanes=2) as front, front.connect_unix() as client:
        for judge in front.judges:
            judge.serve(lambda r: {"body": b"x" * (3 << 20)})
        client.send_post("/kbs/v0/auth", b"{}")
        front.until('kbs_http_requests_total{route="auth",status="200"}', 1)
        with front.connect() as other:
            assert other.get("/healthz").status == 200
        assert len(client.answer().body) == 3 << 20


# Connections.

def test_idle_connections_make_room():
    with Front(max_connections=4) as front:
        clients = [front.connect() for _ in range(4)]
        for client in clients:
            assert client.get("/healthz").status == 200
        with front.connect() as fifth:
            assert fifth.get("/healthz").status == 200
        assert clients[0].closed()
        assert clients[3].get("/healthz").status == 200
        for client in clients:
            client.sock.close()


def test_busy_connections_make_others_wait():
    with Front(max_connections=2) as front:
        first, second = front.connect(), front.connect()
        first.send_post("/kbs/v0/auth", b"1")
        request = front.judges[0].request()
        second.send(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        assert second.answer().status == 100  # it is in, and in the middle of a request
        with front.connect() as third:
            third.send(b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n")
            front.judges[0].answer(request)
            assert first.answer().status == 200  # idle now: evicted for the third
            assert third.answer().status == 200
        second.sock.close()


def test_silent_connections_make_room():
    """Nobody is pushed out before a moment to ask; who does not use it is."""
    with Front(max_connections=2, program="kbs-front-fast") as front:
        silent = [front.connect(), front.connect()]
        with front.connect() as third:
            assert third.get("/healthz").status == 200
        for client in silent:
            client.sock.close()


def test_descriptor_limit_is_raised():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        front = Front(max_connections=200)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with front:
        clients = [front.connect() for _ in range(150)]
        for client in clients:
            assert client.get("/healthz").status == 200
            client.sock.close()


def test_descriptors_run_out():
    """accept(2) fails; the loop goes on, and accepts again when it can."""
    with Front(max_connections=1000) as front:
        resource.prlimit(front.pid, resource.RLIMIT_NOFILE, (30, 30))
        clients = [front.connect() for _ in range(40)]
        served = clients[0]
        assert served.get("/healthz").status == 200
        text = served.get("/metrics").body.decode()
        while 'reason="accept"} 0\n' in text:
            text = served.get("/metrics").body.decode()
        with open(f"/proc/{front.pid}/stat", encoding="ascii") as file:
            before = file.read().split()[13:15]
        for client in clients[:30]:
            client.sock.close()
        assert clients[39].get("/healthz").status == 200
        assert sum(map(int, before)) < 300  # hundredths of a second: it did not spin
        for client in clients[30:]:
            client.sock.close()


# The end.

def test_drain_finishes_what_is_in_flight():
    with Front() as front:
        idle, busy = front.connect(), front.connect()
        assert idle.get("/healthz").status == 200
        busy.send_post("/kbs/v0/auth", b"{}")
        request = front.judges[0].request()
        queued = front.connect()
        queued.send_post("/kbs/v0/auth", b"[]")
        front.until("kbs_queue_length", 1)
        receiving = front.connect()
        receiving.send(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert receiving.answer().status == 100
        front.drain()
        assert idle.closed()
        receiving.send(b"()")
        for n, client in enumerate((busy, queued, receiving)):
            front.judges[0].answer(request, body=b"%d" % n)
            answer = client.answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"%d" % n, "close")
            assert client.closed()
            client.sock.close()
            if n < 2:
                request = front.judges[0].request()
        idle.sock.close()
        assert front.wait() == 0


def test_drain_with_nothing_to_do():
    with Front() as front:
        front.drain()
        assert front.wait() == 0


def test_drain_leaves_the_listener_to_the_next_front(credentials):
    with Front() as front:
        front.drain()
        assert front.wait() == 0
        late = front.connect()  # nobody accepts; kbsd still holds the socket
        with Front(start=False) as second:
            second.plain.close()
            second.plain = front.plain.dup()
            second.configure()
            second.go()
            assert late.get("/healthz").status == 200
            late.sock.close()


def test_drain_is_cut_in_time():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        client.send(b"GET /healthz HTTP/1.1\r\n")
        front.until("kbs_http_active_connections", 2)
        front.drain()
        assert front.wait() == 0


def test_control_closed_while_busy():
    front = Front()
    with front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        front.control.close()
        assert front.wait() == 0
        assert client.closed()


# Time.

def test_slow_head():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        client.send(b"GET /healthz HTTP/1.1\r\nHost:")
        assert client.answer().status == 408
        assert client.closed()


def test_slow_body():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        client.send(b"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nContent-Length: 2\r\n\r\n{")
        assert client.answer().status == 408
        assert client.closed()


def test_idle_and_silent(credentials):
    with Front(program="kbs-front-fast", credentials=credentials) as front:
        with front.connect() as client:
            assert client.closed()
        with front.connect() as client:
            assert client.get("/healthz").status == 200
            assert client.closed()
        with socket.create_connection(front.tls.getsockname(), 10) as sock:
            assert sock.recv(1) == b""
        with front.connect_tls() as client:
            assert client.get("/healthz").status == 200
            assert client.closed()


def test_request_deadline_and_late_answer():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"first")
        late = front.judges[0].request()
        check_busy(client.answer())
        client.send_post("/kbs/v0/auth", b"second")
        front.until("kbs_queue_length", 1)
        front.judges[0].answer(late, body=b"late")
        request = front.judges[0].request()
        assert request.body == b"second"
        front.judges[0].answer(request, body=b"in time")
        assert client.answer().body == b"in time"


def test_stuck_lane_is_closed():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        client.send_post("/kbs/v0/auth", b"{}")
        front.judges[0].request()
        check_busy(client.answer())
        assert front.judges[0].closed()
        front.until("kbs_lanes_attached", 0)


def test_reader_too_slow():
    with Front(program="kbs-front-fast") as front, front.connect_unix() as client:
        front.judges[0].serve(lambda r: {"body": b"x" * (3 << 20)})
        client.send_post("/kbs/v0/auth", b"{}")
        front.until('kbs_http_refused_total{reason="write-timeout"}', 1)


# What kbsd may not do.

def test_start_out_of_turn():
    with Front(start=False) as front:
        front.send(GO, b"")
        assert front.wait() == 79


@pytest.mark.parametrize("listener, lanes, connections, body_bytes", [
    (0, 1, 1, 1), (3, 1, 1, 1), (1, 0, 1, 1), (1, 33, 1, 1), (1, 1, 0, 1), (1, 1, 2**32 - 1, 1), (1, 1, 1, 0),
    (1, 1, 1, (2 << 20) + 1)])
def test_unusable_configuration(listener, lanes, connections, body_bytes):
    with Front(start=False) as front:
        front.configure(listener, lanes, connections, body_bytes=body_bytes)
        assert front.wait() == 79


def test_unusable_descriptors(credentials):
    def start(steps):
        with Front(start=False) as front:
            steps(front)
            assert front.wait() == 79

    def no_key(front):
        front.configure(certificate=open(credentials.cert, "rb").read())
        front.attach(1, front.plain.fileno())
        front.send(GO, b"")

    def two_keys(front):
        front.configure(certificate=open(credentials.cert, "rb").read())
        for _ in range(2):
            with open(credentials.key, "rb") as key:
                front.attach(TLS_KEY, key.fileno())

    def no_listener(front):
        front.configure()
        front.send(GO, b"")

    def lane_too_early(front):
        front.configure()
        front.attach(LANE, front.control.fileno())

    def not_a_listener(front):
        front.configure()
        front.attach(LISTENER_PLAIN, front.control.fileno())

    for steps in (no_key, two_keys, no_listener, lane_too_early, not_a_listener):
        start(steps)


@pytest.mark.parametrize("data", [frame(GO, 0, b""), frame(READY, 0, b"\0\0\0\0"), b"\xff" * 32, frame(DRAIN, 0, b"x"),
                                  frame(DETACH, 0, b"\1\0\0\0"), frame(DETACH, 0, b"")])
def test_control_out_of_turn(data):
    with Front() as front:
        front.control.sendall(data)
        assert front.wait() == 1


def test_lane_out_of_range():
    with Front(attach=False) as front:
        front.attach_lane(1)
        assert front.wait() == 1


def test_hardened():
    with Front() as front:
        with open(f"/proc/{front.pid}/status", encoding="ascii") as file:
            assert "NoNewPrivs:\t1" in file.read()
        with open(f"/proc/{front.pid}/limits", encoding="ascii") as file:
            assert re.search(r"Max core file size +0 +0 ", file.read())
