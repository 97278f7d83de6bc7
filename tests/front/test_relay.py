"""Requests that wait for others' answers: kbs-front between played judges and a played kbs-fetch."""
import os
import struct
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from harness import DONE, FAILED, FETCH, FETCHED, RESPONSE, Front, fetched_body, frame, packed_bytes  # noqa: E402

ATTEST = "/kbs/v0/attest"
WAITING_MAX = 256  # KBS_LIMIT_FETCH_WAITING
ROUNDS_MAX = 12    # KBS_LIMIT_FETCH_ROUNDS


def check_busy(answer):
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def refused(front, reason):
    return front.metrics()[f'kbs_http_refused_total{{reason="{reason}"}}']


def test_a_request_comes_again_with_the_answer():
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST + "?a=b", b"evidence", b"Cookie: kbs-session-id=" + b"0123456789abcdef" * 2
                         + b"\r\nAuthorization: Bearer t\r\n")
        first = judge.request()
        assert first.fetched == []
        judge.fetch(first, body=b"question", most=1000)
        want = fetch.want()
        assert (want.endpoint, want.method, want.suffix, want.body, want.max) == (b"as", 1, b"/attestation", b"question", 1000)
        assert want.deadline_ns == first.deadline_ns
        assert front.metrics()["kbs_fetch_waiting"] == 1
        fetch.fetched(want, body=b"\x00token" * 100)
        again = judge.request()
        assert (again.id, again.deadline_ns) == (first.id, first.deadline_ns)
        for field in ("route", "listener", "peer", "method", "target", "params", "query", "cookie", "authorization", "accept",
                      "content_type", "signature", "body", "proof"):
            assert getattr(again, field) == getattr(first, field), field
        judge.fetch(again, suffix=b"", method=0)  # one more
        fetch.fetched(fetch.want(), status=404, body=b"")
        last = judge.request()
        assert [(f.outcome, f.status, f.body) for f in last.fetched] == [(DONE, 200, b"\x00token" * 100), (DONE, 404, b"")]
        judge.answer(last, body=b"[1]")
        assert client.answer().body == b"[1]"
        metrics = front.metrics()
        assert (metrics["kbs_fetch_waiting"], metrics['kbs_fetch_answers_total{outcome="done"}']) == (0, 2)


def test_a_lane_is_free_while_others_wait():
    """Many more requests wait than there are lanes, and the lane serves others between them."""
    with Front(max_connections=64) as front:
        judge, fetch = front.judges[0], front.attach_fetch()
        waiting = [front.connect() for _ in range(20)]
        for client in waiting:
            client.send_post(ATTEST)
            judge.fetch(judge.request())
        with front.connect() as client:
            client.send_post("/kbs/v0/auth")
            judge.answer(judge.request(), body=b"quick")
            assert client.answer().body == b"quick"
        wants = [fetch.want() for _ in waiting]
        assert len({want.id for want in wants}) == 20
        for i in reversed(range(20)):  # in any order
            fetch.fetched(wants[i], body=b"%d" % i)
            judge.answer(request := judge.request(), body=request.fetched[0].body)
            assert waiting[i].answer().body == b"%d" % i
            waiting[i].sock.close()


def test_any_lane_goes_on():
    with Front(lanes=2) as front, front.connect() as client:
        fetch = front.attach_fetch()
        client.send_post(ATTEST)
        front.judges[0].fetch(front.judges[0].request())
        want = fetch.want()
        front.judges[0].close()
        fetch.fetched(want)
        front.judges[1].answer(front.judges[1].request(), body=b"2")
        assert client.answer().body == b"2"


def test_without_kbs_fetch():
    with Front() as front, front.connect() as client:
        client.send_post(ATTEST)
        front.judges[0].fetch(front.judges[0].request())
        again = front.judges[0].request()
        assert [(f.outcome, f.body, f.detail) for f in again.fetched] == [(FAILED, b"", b"there is no kbs-fetch")]
        front.judges[0].answer(again)
        assert client.answer().status == 200


def test_kbs_fetch_dies_and_is_replaced():
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request())
        fetch.want()
        fetch.close()
        again = judge.request()
        assert again.fetched[0].outcome == FAILED
        judge.answer(again)
        assert client.answer().status == 200
        front.until("kbs_fetch_attached", 0)
        new = front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request())
        new.fetched(new.want())
        judge.answer(judge.request())
        assert client.answer().status == 200


@pytest.mark.parametrize("breach", [
    lambda want: frame(FETCHED, want.id + 1, fetched_body()),
    lambda want: frame(RESPONSE, want.id, b""),
    lambda want: frame(FETCH, want.id, b""),
    lambda want: frame(FETCHED, want.id, fetched_body()[:-1]),
    lambda want: frame(FETCHED, want.id, fetched_body(outcome=0)),
    lambda want: frame(FETCHED, want.id, fetched_body(outcome=7)),
    lambda want: frame(FETCHED, want.id, fetched_body(body=b"x" * 1001)),
    lambda want: struct.pack("<IHHQQQ", 2**31, 1, FETCHED, want.id, 0, 0),
    lambda want: b"x" * 100,
], ids=["other-id", "response", "fetch", "cut", "outcome-0", "outcome-7", "larger-than-asked", "huge", "noise"])
def test_kbs_fetch_breaks_the_schema(breach):
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request(), most=1000)
        fetch.sock.sendall(breach(fetch.want()))
        assert fetch.closed()
        again = judge.request()
        assert again.fetched[0].outcome == FAILED
        judge.answer(again)
        assert client.answer().status == 200
        assert refused(front, "fetch-breach") == 1


def test_kbs_fetch_speaks_unasked():
    with Front() as front:
        fetch = front.attach_fetch()
        fetch.sock.sendall(frame(FETCHED, 1, fetched_body()))
        assert fetch.closed()


def fetch_frame(ident, endpoint=b"as", method=1, suffix=b"/x", most=10):
    return frame(FETCH, ident, packed_bytes(endpoint) + bytes([method]) + packed_bytes(suffix) + packed_bytes(b"") * 3
                 + struct.pack("<I", most))


@pytest.mark.parametrize("fields", [{"endpoint": b""}, {"method": 2}, {"suffix": b"@evil"}, {"most": (1 << 20) + 1}],
                         ids=["no-endpoint", "method", "suffix", "larger-than-allowed"])
def test_a_lane_asks_for_what_no_judge_can_mean(fields):
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.sock.sendall(fetch_frame(judge.request().id, **fields))
        assert judge.closed()
        check_busy(client.answer())
        assert refused(front, "lane-breach") == 1
        assert fetch.idle()


def test_a_lane_that_never_has_enough():
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        for _ in range(ROUNDS_MAX + 1):
            judge.fetch(judge.request())
            fetch.fetched(fetch.want())
        check_busy(client.answer())


def test_client_leaves_while_its_request_waits():
    with Front() as front:
        judge, fetch = front.judges[0], front.attach_fetch()
        with front.connect() as client:
            client.send_post(ATTEST)
            judge.fetch(judge.request())
            want = fetch.want()
        front.until("kbs_fetch_waiting", 0)
        fetch.fetched(want)  # no breach: it was asked
        front.until('kbs_fetch_answers_total{outcome="done"}', 1)
        assert judge.idle()
        with front.connect() as client:  # nobody is asked for one who left while his lane worked
            client.send_post(ATTEST)
            request = judge.request()
        front.until('kbs_http_refused_total{reason="disconnected"}', 2)
        judge.fetch(request)
        with front.connect() as client:
            client.send_post(ATTEST)
            judge.answer(judge.request())
            assert client.answer().status == 200
        assert fetch.idle()


def test_too_many_wait():
    with Front(max_connections=WAITING_MAX + 8) as front:
        judge, fetch = front.judges[0], front.attach_fetch()
        clients = [front.connect() for _ in range(WAITING_MAX)]
        for client in clients:
            client.send_post(ATTEST)
            judge.fetch(judge.request())
        with front.connect() as client:
            client.send_post(ATTEST)
            judge.fetch(judge.request())
            check_busy(client.answer())
        assert refused(front, "fetch-full") == 1
        fetch.fetched(fetch.want())
        judge.answer(judge.request())
        assert clients[0].answer().status == 200
        for client in clients:
            client.sock.close()


def test_too_many_bytes_wait():
    body = b"x" * (2 << 20)
    with Front(max_connections=64) as front:
        judge = front.judges[0]
        front.attach_fetch()
        clients = [front.connect() for _ in range(16)]
        for client in clients:
            client.send_post(ATTEST, body)
            judge.fetch(judge.request())
        check_busy(clients[-1].answer())  # 15 of them are in 32 MiB
        assert refused(front, "fetch-full") == 1
        for client in clients:
            client.sock.close()
        front.until("kbs_fetch_waiting", 0)


def test_deadline_of_a_request_that_waits():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request())
        want = fetch.want()
        check_busy(client.answer())
        fetch.fetched(want)
        front.until('kbs_fetch_answers_total{outcome="done"}', 1)
        assert judge.idle()


def test_silent_kbs_fetch_is_let_go():
    with Front(program="kbs-front-fast") as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request())
        fetch.want()
        check_busy(client.answer())
        assert fetch.closed()
        assert refused(front, "fetch-stuck") == 1


def test_drain_waits_for_what_waits():
    with Front() as front, front.connect() as client:
        judge, fetch = front.judges[0], front.attach_fetch()
        client.send_post(ATTEST)
        judge.fetch(judge.request())
        want = fetch.want()
        front.drain()
        fetch.fetched(want)
        judge.answer(judge.request(), body=b"done")
        assert client.answer().body == b"done"
        assert front.wait() == 0
