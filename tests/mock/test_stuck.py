"""A token call that does not come back, and a token that is slow: what a service of several lanes makes of them."""
import select
import time

import pytest

import load
from service import wait_until

PATH = "default/disk/vm1"
TOKEN_OP_S = 10  # KBS_LIMIT_TOKEN_OP_MS
PAUSE_S = 0.02   # of a guest while a call hangs for that long: there is nothing to be seen in a full load
AUDIT_ACK_S = 5  # and KBS_LIMIT_AUDIT_ACK_MS: the judge waits for the deed as well


def lane_tokens(service):
    return {r["pid"] for r in service.roles() if r["role"] == "kbs-token" and r["unit"].startswith("lane-guest")}


def pause(seconds):
    select.poll().poll(1000 * seconds)


def test_a_call_that_hangs_costs_one_request_and_one_lane(make_mock):
    service, token = make_mock(lanes=2)
    service.start()
    made = service.generate(PATH)
    workers = lane_tokens(service)
    loads = load.start(service, made, PATH, 2, PAUSE_S)
    wait_until(lambda: len(load.answers(loads)) > 100, what="load running")
    begun = time.monotonic()
    token.script("C_WrapKey once hang")
    wait_until(lambda: token.faults("C_WrapKey") == 1, what="a call hangs")
    wait_until(lambda: lane_tokens(service) != workers and len(lane_tokens(service)) == 2, what="the lane is replaced")
    replaced = time.monotonic()
    wait_until(lambda: len(load.answers(loads, replaced)) > 100, what="load on both lanes")
    for one in loads:
        one.end()

    failed = [a for a in load.answers(loads) if a[2] != 200]
    assert len(failed) == 1 and not any(one.wrong or one.unanswered for one in loads), failed
    asked, seconds, status, retry_after = failed[0][:4]
    assert status == 503 and retry_after
    assert TOKEN_OP_S - 1 < seconds < TOKEN_OP_S + AUDIT_ACK_S + 5
    assert len(workers & lane_tokens(service)) == 1  # the other lane was left alone
    before = load.milliseconds([a[1] for a in load.answers(loads, 0, begun)])
    during = load.milliseconds([a[1] for a in load.answers(loads, asked, asked + seconds) if a is not failed[0]])
    print(f"hung call answered after {seconds:.2f} s with 503, lane replaced {replaced - asked - seconds:.2f} s later; "
          f"other lane p50/p99 before {before[0]:.1f}/{before[1]:.1f} ms, during {during[0]:.1f}/{during[1]:.1f} ms")
    assert during[0] < 4 * before[0] + 20  # only gross changes: the machine has other work
    assert token.calls("C_Login") == 2 + 3 + 1  # init (officer, user), three lanes, the new one
    service.ledger()


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_slow_token_keeps_all_lanes_busy(make_mock, lanes):
    service, token = make_mock(lanes)
    token.configure("latency = 10")
    service.start()
    made = service.generate(PATH)
    loads = load.start(service, made, PATH, 2 * lanes)
    wait_until(lambda: len(load.answers(loads)) >= 4 * lanes, what="load running")
    calls, begun = token.all_calls(), time.monotonic()
    pause(1.5)
    calls, seconds = token.all_calls() - calls, time.monotonic() - begun
    for one in loads:
        one.end()
    got = load.answers(loads, begun)
    busy = calls * 0.010 / seconds
    print(f"{lanes} lanes, 10 ms a call: {calls} calls in {seconds:.1f} s = {busy:.2f} lanes busy, "
          f"{len(got) / seconds:.1f} releases a second")
    assert all(a[2] == 200 for a in got) and not any(one.wrong or one.unanswered for one in loads)
    assert busy > 0.6 * lanes


def test_a_token_that_vanishes_and_comes_back(make_mock):
    service, token = make_mock(lanes=1)
    service.start()
    made = service.generate(PATH)
    loads = load.start(service, made, PATH, 1)
    wait_until(lambda: len(load.answers(loads)) > 20, what="load running")
    token.script("C_WrapKey once vanish")
    wait_until(lambda: any(a[2] == 503 for a in load.answers(loads)), what="refusals")
    token.script()
    wait_until(service.lanes_ready, what="the lane is back")
    back = time.monotonic()
    wait_until(lambda: [a for a in load.answers(loads, back) if a[2] == 200], what="releases")
    for one in loads:
        one.end()
    assert not any(one.wrong or one.unanswered for one in loads)
    assert {a[2] for a in load.answers(loads)} <= {200, 503}
    assert token.wrong_pins() == 0
