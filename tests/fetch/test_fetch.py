"""kbs-fetch as fronts use it: requests and their answers, from servers that behave and from others."""
import os
import socket
import subprocess
import threading
import time

import pytest
from courier import (BIN, CLIENT_KEY, DONE, FAILED, FETCH, HEADERS, LARGE, NO_GRPC, OPEN, REFUSED, TIMEOUT, Courier, data,
                     endpoint, frame, u8, u32)
from pki import NOW, DAY, Authority
from servers import (Server, die_in_the_middle, endless, endless_headers, garbage, in_turn, ok, unused_port)


# A sanitizer keeps for a while what was freed.
SANITIZED = b"sanitizers" in subprocess.run([BIN / "kbs-fetch", "--print-seccomp"], capture_output=True, check=True).stdout


def test_requests_arrive_as_they_were_asked_and_answers_come_back(tmp_path):
    keys = tmp_path / "headers"
    keys.write_text("X-Api-Key: s3cret-value\r\n\nX-Other: 2\n")
    with Server({"/base/a": ok(b"\x00body\xff", content_type="application/x-thing"),
                 "/base": ok(b"", status=201)}) as server, \
            Courier([endpoint("as", server.url + "/base"), endpoint("with-key", server.url)],
                    secrets=[(HEADERS, 1, keys)]) as courier:
        front = courier.front()
        got = front.fetch("as", "/a?x=1&y=%20z", accept="application/json")
        assert (got.outcome, got.status, got.grpc) == (DONE, 200, NO_GRPC)
        assert (got.content_type, got.body, got.detail) == ("application/x-thing", b"\x00body\xff", "")
        assert front.fetch("as").status == 201
        assert front.fetch("as", "/b", body=b"{}", content_type="application/json").status == 404
        assert front.fetch("with-key", "/base/a").status == 200
        asked = server.requests
        assert [r[:2] for r in asked] == [("GET", "/base/a?x=1&y=%20z"), ("GET", "/base"), ("POST", "/base/b"),
                                          ("GET", "/base/a")]
        assert asked[0][2]["Accept"] == "application/json" and "Accept" not in asked[1][2]
        assert asked[2][3] == b"{}" and asked[2][2]["Content-Type"] == "application/json"
        assert asked[3][2]["X-Api-Key"] == "s3cret-value" and asked[3][2]["X-Other"] == "2"
        assert "X-Api-Key" not in asked[0][2] and "Expect" not in asked[2][2]
        assert server.connections == 1  # all over one
        courier.drain()
        assert "s3cret" not in courier.text()


@pytest.mark.parametrize("suffix", ["a", "@evil/", ":80/", "//../a", "/..", "/a/../b", "/a/.", "/%2e%2e/a", "/%2E", "/a%2Fb",
                                    "/a b", "/a\r\nX: y", "/a\x00", "/\u00e9", "/#a", "/a\\b", "/%", "/%4", "/%zz",
                                    "/" + "a" * 2100])
def test_a_suffix_that_is_no_path_is_refused(shared, suffix):
    server, front = shared
    before = len(server.requests)
    assert front.fetch("as", suffix).outcome == REFUSED
    assert len(server.requests) == before


@pytest.fixture(scope="module")
def shared():
    with Server({"/..a/b..": ok(), "/": ok()}) as server, Courier([endpoint("as", server.url)]) as courier:
        yield server, courier.front()


def test_what_may_not_be_asked(shared):
    server, front = shared
    before = len(server.requests)
    for what in (dict(endpoint="other"), dict(endpoint=server.url), dict(endpoint=""),
                 dict(endpoint="as", body=b"x", method=0), dict(endpoint="as", method=2),
                 dict(endpoint="as", accept="a\r\nX-Evil: 1"), dict(endpoint="as", content_type="x" * 300)):
        assert front.fetch(what.pop("endpoint"), "/", **what).outcome == REFUSED
    assert len(server.requests) == before
    assert front.fetch("as", "/..a/b..?/../#"[:-1]).status == 200  # dots that are no dot segment, and a query


def test_redirects_are_answers():
    with Server({"/target": ok(b"secret")}) as target, \
            Server({"/": ok(b"", status=302, Location=target.url + "/target")}) as server, \
            Courier([endpoint("as", server.url)]) as courier:
        got = courier.front().fetch("as", "/")
        assert (got.outcome, got.status, got.body) == (DONE, 302, b"")
        assert target.requests == []


@pytest.mark.parametrize("answer, outcome", [
    (die_in_the_middle, FAILED), (garbage, FAILED), (endless, LARGE), (endless_headers, LARGE),
    (ok(b"x" * 101), LARGE), (ok(b"x" * 100), DONE), (ok(b"", status=500), DONE)],
    ids=["dies", "garbage", "endless", "endless-headers", "over", "at-the-bound", "500"])
def test_answers_good_and_bad(answer, outcome):
    with Server({"/": answer}) as server, Courier([endpoint("as", server.url)]) as courier:
        front = courier.front()
        got = front.fetch("as", "/", limit=100)
        assert got.outcome == outcome and (outcome == DONE or (got.detail and got.body == b"" and got.status == 0))
        server.answers["/"] = ok(b"fine")
        assert front.fetch("as", "/").body == b"fine"


def test_the_largest_answer():
    with Server({"/": ok(b"x" * (1 << 20)), "/more": ok(b"x" * ((1 << 20) + 1))}) as server, \
            Courier([endpoint("as", server.url)]) as courier:
        front = courier.front()
        assert len(front.fetch("as", "/", limit=0xFFFFFFFF).body) == 1 << 20
        assert front.fetch("as", "/more", limit=0xFFFFFFFF).outcome == LARGE


def test_nobody_there_and_a_name_that_is_none():
    port, socket_ = unused_port()
    with socket_, Courier([endpoint("as", f"http://127.0.0.1:{port}"),
                           endpoint("name", "http://no-such-host.invalid", timeout_ms=15000)]) as courier:
        front = courier.front()
        got = front.fetch("as", "/")
        assert got.outcome == FAILED and "127.0.0.1" not in got.detail  # it may be shown to who asked
        courier.wait_log(r"fetch-failed endpoint=as try=1 .*127\.0\.0\.1")
        assert front.fetch("name", "/").outcome in (FAILED, TIMEOUT)


def test_one_that_hangs_is_given_up_and_holds_up_nobody():
    with Server({"/": ok()}) as good, Server({}) as bad:
        bad.answers["/"] = bad.hang
        with Courier([endpoint("bad", bad.url, timeout_ms=1500, parallel=2), endpoint("good", good.url)]) as courier:
            front, other = courier.front(), courier.front()
            begin = time.monotonic()
            hanging = {front.send("bad", "/") for _ in range(2 + 64)}  # two places, and the whole queue
            over = front.send("bad", "/")
            number, got = front.fetched()
            assert number == over and got.outcome == FAILED and "too many" in got.detail
            for channel in (other, front):
                assert channel.fetch("good", "/").outcome == DONE
            assert time.monotonic() - begin < 1.5, "waited for the one that hangs"
            assert len(bad.requests) <= 2
            while hanging:
                number, got = front.fetched()
                assert got.outcome == TIMEOUT
                hanging.remove(number)
            assert 1.4 < time.monotonic() - begin < 15
            assert front.fetch("good", "/").outcome == DONE


def test_answers_come_as_they_are_there_whatever_was_asked_first():
    with Server({"/quick": ok(b"quick")}) as server:
        server.answers["/slow"] = server.hang
        with Courier([endpoint("as", server.url)]) as courier:
            front = courier.front()
            slow = front.send("as", "/slow")
            assert front.fetch("as", "/quick").body == b"quick"
            server.released.set()
            number, got = front.fetched()
            assert (number, got.body) == (slow, b"late")


@pytest.mark.parametrize("body", [None, b"post"])
@pytest.mark.parametrize("first", [ok(status=503), ok(status=502), ok(status=504), die_in_the_middle])
def test_what_fails_is_tried_again(first, body):
    with Server({"/": in_turn(first, first, ok(b"third"))}) as server, \
            Courier([endpoint("two", server.url, retries=2)]) as courier:
        got = courier.front().fetch("two", "/", body=body)
        assert (got.outcome, got.body) == (DONE, b"third")
        assert [r[3] for r in server.requests] == [body or b""] * 3


def test_but_not_for_ever_and_not_everything():
    with Server({"/503": ok(b"busy", status=503), "/500": ok(status=500), "/dies": die_in_the_middle}) as server, \
            Courier([endpoint("one", server.url, retries=1), endpoint("none", server.url)]) as courier:
        front = courier.front()
        got = front.fetch("one", "/503")
        assert (got.outcome, got.status, got.body, len(server.requests)) == (DONE, 503, b"busy", 2)
        assert front.fetch("one", "/500").status == 500 and len(server.requests) == 3
        assert front.fetch("one", "/dies").outcome == FAILED and len(server.requests) == 5
        assert front.fetch("none", "/dies").outcome == FAILED and len(server.requests) == 6


def test_circuit_breaker():
    with Server({"/": ok(status=503), "/fine": ok()}) as server, \
            Courier([endpoint("as", server.url, failures=3, open_ms=400)]) as courier:
        front = courier.front()
        for _ in range(2):
            assert front.fetch("as", "/").status == 503
        assert front.fetch("as", "/fine").outcome == DONE  # which forgives
        for _ in range(3):
            assert front.fetch("as", "/").status == 503
        opened = time.monotonic()
        for _ in range(20):
            got = front.fetch("as", "/fine")
            assert (got.outcome, got.status) == (OPEN, 0) and "lately" in got.detail
        assert len(server.requests) == 6
        # Half open: one request finds out that it is as before, and it is open again.
        outcomes = []
        while len(server.requests) == 6:
            outcomes.append(front.fetch("as", "/").outcome)
        assert time.monotonic() - opened > 0.35 and outcomes[-1] == DONE and set(outcomes[:-1]) <= {OPEN}
        assert front.fetch("as", "/fine").outcome == OPEN
        # And then that it is well.
        while front.fetch("as", "/fine").outcome == OPEN:
            pass
        assert len(server.requests) == 8
        assert front.fetch("as", "/fine").outcome == DONE
        courier.wait_log("circuit endpoint=as state=open")
        courier.wait_log("circuit endpoint=as state=closed")


def test_only_one_request_finds_out():
    with Server({"/": ok(status=503)}) as server, \
            Courier([endpoint("as", server.url, failures=1, open_ms=1)]) as courier:
        front, other = courier.front(), courier.front()
        assert front.fetch("as", "/").status == 503
        server.answers["/"] = server.hang
        probe = None
        while len(server.requests) == 1:
            probe = front.send("as", "/")
            while front.silent() and len(server.requests) == 1:
                pass
            if len(server.requests) == 1:
                assert front.fetched()[1].outcome == OPEN
        assert other.fetch("as", "/").outcome == OPEN
        front.sock.close()  # the one that finds out is called off: another one may
        server.answers["/"] = ok()
        while other.fetch("as", "/").outcome == OPEN:
            pass
        assert probe is not None and other.fetch("as", "/").outcome == DONE


def test_what_a_front_asked_for_goes_with_it():
    with Server({"/": ok()}) as server:
        server.answers["/hang"] = server.hang
        with Courier([endpoint("as", server.url, parallel=1, timeout_ms=15000)]) as courier:
            gone, front = courier.front(), courier.front()
            gone.send("as", "/hang")
            gone.send("as", "/hang")
            server.wait(1)
            waiting = front.send("as", "/")
            assert front.silent()
            gone.sock.close()
            number, got = front.fetched()
            assert (number, got.outcome) == (waiting, DONE)
            assert len(server.requests) == 2


def test_drain_waits_for_nobody():
    with Server({}) as server:
        server.answers["/"] = server.hang
        with Courier([endpoint("as", server.url, timeout_ms=15000)]) as courier:
            front = courier.front()
            front.send("as", "/")
            server.wait(1)
            begin = time.monotonic()
            courier.drain()
            assert time.monotonic() - begin < 5 and front.receive() is None


# TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki")
    return Authority(folder, "ca"), Authority(folder, "other-ca")


def test_https_by_the_endpoints_own_authority(pki):
    ca, other = pki
    with Server({"/": ok(b"tls")}, tls=ca.server("server")) as server, \
            Courier([endpoint("right", server.url, ca=ca.pem), endpoint("wrong", server.url, ca=other.pem),
                     endpoint("system", server.url), endpoint("retries", server.url, ca=other.pem, retries=3)]) as courier:
        front = courier.front()
        assert front.fetch("right", "/").body == b"tls"
        for name in ("wrong", "system", "retries"):
            got = front.fetch(name, "/")
            assert got.outcome == FAILED and "certificate" in got.detail.lower(), got
        assert front.fetch("right", "/").body == b"tls"
        assert len(server.requests) == 2
        courier.drain()
        assert courier.text().count("endpoint=retries") == 1  # trying again does not help


@pytest.mark.parametrize("how", [dict(begin=NOW - 3 * DAY, end=NOW - 2 * DAY), dict(begin=NOW + DAY / 2),
                                 dict(address="127.0.0.2"), dict(address=None)],
                         ids=["expired", "not-yet", "another-host", "no-host"])
def test_https_with_a_certificate_that_does_not_fit(pki, how):
    ca, _ = pki
    with Server({"/": ok()}, tls=ca.server("bad", **how)) as server, \
            Courier([endpoint("as", server.url, ca=ca.pem)]) as courier:
        got = courier.front().fetch("as", "/")
        assert got.outcome == FAILED and ("certificate" in got.detail.lower() or "fingerprint" in got.detail)
        assert server.requests == []


def test_client_certificates(pki):
    ca, other = pki
    certificate, key = ca.issue("client")
    stranger, stranger_key = other.issue("stranger")
    with Server({"/": ok(b"known")}, tls=ca.server("mutual", clients=ca)) as server, \
            Courier([endpoint("right", server.url, ca=ca.pem, certificate=certificate.read_bytes()),
                     endpoint("none", server.url, ca=ca.pem),
                     endpoint("stranger", server.url, ca=ca.pem, certificate=stranger.read_bytes())],
                    secrets=[(CLIENT_KEY, 0, key), (CLIENT_KEY, 2, stranger_key)]) as courier:
        front = courier.front()
        assert front.fetch("right", "/").body == b"known"
        for name in ("none", "stranger"):
            assert front.fetch(name, "/").outcome == FAILED
        assert front.fetch("right", "/").body == b"known"  # and not over a connection of another's
        assert len(server.requests) == 2


def test_unix_sockets(tmp_path):
    with Server({"/a": ok(b"near")}, unix=tmp_path / "socket") as server, \
            Courier([endpoint("as", server.url)]) as courier:
        assert courier.front().fetch("as", "/a").body == b"near"


# gRPC


class Grpc:
    """A server of grpcio's. Its method echoes, fails, or trails off."""

    def __init__(self, credentials=None):
        grpc = pytest.importorskip("grpc")
        from concurrent import futures

        def echo(request, context):
            if request == b"fail":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
            if request == b"hang":
                self.released.wait(20)
            return b"echo " + request

        handlers = grpc.method_handlers_generic_handler("test.Service", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
        self.released = threading.Event()
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((handlers,))
        if credentials is None:
            self.port = self.server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([credentials]))
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        self.server.stop(None).wait()


def message(text):
    return u8(0) + len(text).to_bytes(4, "big") + text


@pytest.mark.parametrize("tls", [False, True], ids=["h2c", "tls"])
def test_grpc(pki, tls):
    ca, _ = pki
    certificate, key = ca.issue("grpc")
    with Grpc((key.read_bytes(), certificate.read_bytes()) if tls else None) as server, \
            Courier([endpoint("as", f"http{'s' if tls else ''}://127.0.0.1:{server.port}", http2=True, timeout_ms=3000,
                              ca=ca.pem if tls else "")]) as courier:
        front = courier.front()

        def call(text, method="Echo"):
            return front.fetch("as", f"/test.Service/{method}", body=message(text), content_type="application/grpc")

        got = call(b"hello")
        assert (got.outcome, got.status, got.grpc, got.body) == (DONE, 200, 0, message(b"echo hello"))
        assert got.content_type == "application/grpc"
        got = call(b"fail")
        assert (got.outcome, got.status, got.grpc, got.body, got.detail) == (DONE, 200, 7, b"", "not you")
        # UNIMPLEMENTED may come before the request's body is sent. libcurl 7.88 gives such an answer up.
        got = call(b"x", method="None")
        assert got.grpc == 12 or got.outcome == FAILED
        hanging = front.send("as", "/test.Service/Echo", body=message(b"hang"), content_type="application/grpc")
        assert call(b"beside").body == message(b"echo beside")
        server.released.set()
        assert front.fetched()[0] == hanging


def test_http2_to_a_server_that_has_none():
    with Server({"/": ok()}) as server, Courier([endpoint("as", server.url, http2=True, timeout_ms=2000)]) as courier:
        assert courier.front().fetch("as", "/").outcome in (FAILED, TIMEOUT)


# Peers


def test_a_front_that_stops_in_the_middle_holds_up_nobody():
    with Server({"/": ok()}) as server, Courier([endpoint("as", server.url)]) as courier:
        half, front, judge = courier.front(), courier.front(), courier.judge()
        whole = frame(FETCH, data("as") + u8(0) + data("/") + data("") + data("") + data("") + u32(100), 7)
        for cut in (1, 31, 33, len(whole) - 1):
            half.sock.sendall(whole[:cut])
            assert front.fetch("as", "/").outcome == DONE and judge.cached("none") is None
            half.sock.sendall(whole[cut:])
            assert half.fetched()[0] == 7
        half.sock.sendall(whole[:10])
        half.sock.close()
        assert front.fetch("as", "/").outcome == DONE
        half = courier.front()
        half.sock.sendall(whole * 20)  # many at once
        assert [half.fetched()[1].outcome for _ in range(20)] == [DONE] * 20


@pytest.mark.parametrize("what", ["front", "judge"])
@pytest.mark.parametrize("sent", [
    b"\xff" * 64, frame(64), frame(FETCH, b"\x00"), frame(20, b"\x00"),
    frame(20, data("a") + u8(0)), frame(FETCH, data("as") + u8(0) + data("/") + data("") * 3 + u32(100) + b"x")],
    ids=["noise", "go", "short-fetch", "short-want", "want", "long-fetch"])
def test_a_peer_that_says_what_it_may_not_is_dropped(what, sent):
    with Server({"/": ok()}) as server, Courier([endpoint("as", server.url)]) as courier:
        bad, front = courier.peer({"front": 5, "judge": 8}[what]), courier.front()
        bad.sock.sendall(sent)
        answer = bad.receive()
        allowed = what == "judge" and sent == frame(20, data("a") + u8(0))
        assert (answer is not None) == allowed
        assert front.fetch("as", "/").outcome == DONE
        assert allowed or courier.said("peer-dropped")


def test_a_front_that_takes_no_answers_is_dropped():
    with Server({"/": ok(b"x" * (1 << 20))}) as server, Courier([endpoint("as", server.url, parallel=32)]) as courier:
        greedy, front = courier.front(), courier.front()
        try:
            for _ in range(60):
                greedy.send("as", "/")
                server.wait(len(server.requests))
        except (BrokenPipeError, ConnectionResetError):
            pass
        courier.wait_log("peer-dropped peer=front .*does not take its answers")
        assert front.fetch("as", "/").outcome == DONE


def test_a_judge_that_does_not_wait_is_dropped():
    with Server({"/": ok(b"x" * (1 << 20))}) as server, Courier([], []) as courier:
        judge = courier.judge()
        want = frame(20, data("none") + u8(0))
        judge.sock.sendall(want)
        assert judge.receive() is not None
        assert server.requests == []


def test_a_message_of_kbsd_that_is_none_ends_it():
    with Courier() as courier:
        courier.attach(4, 0, courier.control.sock.fileno())  # a lane
        assert courier.status() == 1 and courier.said("does not take")


def test_the_end_of_kbsd_is_the_end():
    with Courier() as courier:
        front = courier.front()
        courier.control.sock.shutdown(socket.SHUT_WR)
        assert courier.status() == 0 and front.receive() is None


# What it does not start with


@pytest.mark.parametrize("lines", ["no colon", "X y: z", ": v", "X: \x01", "X: \u00e9", "X: y\rX-Evil: z"])
def test_header_files_that_are_none(tmp_path, lines):
    file = tmp_path / "headers"
    file.write_text(lines)
    courier = Courier([endpoint("as", "http://127.0.0.1:1")], secrets=[(HEADERS, 0, file)], ready=False)
    with courier:
        assert courier.status() == 79
        assert courier.said("a header file of endpoint as: not .*Name: value") and "Evil" not in courier.text()


@pytest.mark.parametrize("kwargs", [
    dict(endpoints=[endpoint("as", "https://127.0.0.1", certificate=b"x")]),
    dict(endpoints=[endpoint("as", "ftp://127.0.0.1")]), dict(endpoints=[endpoint("", "http://127.0.0.1")]),
    dict(endpoints=[endpoint("as", "http://a@127.0.0.1")]), dict(endpoints=[endpoint("as", "http://h", parallel=99)]),
    dict(endpoints=[endpoint("as", "http://h", timeout_ms=0)]), dict(endpoints=[endpoint("as", "http://h")] * 17),
    dict(cache="/nowhere/at/all"), dict(cache="/etc/passwd")])
def test_configurations_that_are_none(kwargs):
    with Courier(ready=False, **kwargs) as courier:
        assert courier.status() == 79, courier.text()


# The resolver, and what is left behind


@pytest.mark.skipif(os.geteuid() != 0, reason="a name server of our own")
def test_names_are_resolved_and_a_resolver_that_hangs_holds_up_nobody(tmp_path):
    """With a name server that knows one name and does not answer to others, in a mount name space with its resolv.conf."""
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 127.77.77.53\noptions timeout:15 attempts:1\n")
    wrapper = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(resolv)]
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        dns.bind(("127.77.77.53", 53))
    except OSError as error:
        pytest.skip(f"port 53: {error}")

    def answer():
        while True:
            try:
                question, who = dns.recvfrom(512)
            except OSError:
                return
            if b"\x05known" in question:
                end = question.index(b"\x00", 12) + 5
                is_a = question[end - 4:end - 2] == b"\x00\x01"
                record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x7f\x00\x00\x01" if is_a else b""
                dns.sendto(question[:2] + b"\x81\x80\x00\x01" + (b"\x00\x01" if is_a else b"\x00\x00") + b"\x00" * 4
                           + question[12:end] + record, who)

    threading.Thread(target=answer, daemon=True).start()
    with dns, Server({"/": ok(b"found")}) as server, \
            Courier([endpoint("known", f"http://known.test:{server.port}"),
                     endpoint("lost", "http://lost.test", timeout_ms=400)], wrapper=wrapper) as courier:
        front = courier.front()
        assert front.fetch("known", "/").body == b"found"
        begin = time.monotonic()
        lost = front.send("lost", "/")
        while front.silent():
            assert courier.front().fetch("known", "/").body == b"found"
        number, got = front.fetched()
        assert (number, got.outcome) == (lost, TIMEOUT) and time.monotonic() - begin < 8
        assert front.fetch("known", "/").body == b"found"
        courier.drain()
        assert time.monotonic() - begin < 10, "waited for the resolver"


def test_nothing_is_left_behind():
    """Descriptors and memory after many requests that end in many ways."""
    port, socket_ = unused_port()
    with socket_, Server({"/": ok(b"x" * 5000), "/dies": die_in_the_middle, "/large": endless}) as server, \
            Courier([endpoint("as", server.url, timeout_ms=3000), endpoint("none", f"http://127.0.0.1:{port}")]) as courier:
        pid = courier.process.pid

        def rss():
            return int(open(f"/proc/{pid}/statm").read().split()[1]) * 4

        def round_():
            front = courier.front()
            for name, suffix in (("as", "/"), ("as", "/dies"), ("as", "/large"), ("none", "/"), ("as", "/..")) * 10:
                front.send(name, suffix, limit=20000)
            for _ in range(50):
                front.fetched()
            front.sock.close()
            courier.text()  # a pipe that is full would stop it

        round_()
        before = rss()
        for _ in range(15):
            round_()
        grown = rss() - before
        assert grown < (8192 if not SANITIZED else 1 << 18), f"{before} KiB, and {grown} more"
        if os.geteuid() == 0:
            assert len(os.listdir(f"/proc/{pid}/fd")) < 100
        courier.drain()
