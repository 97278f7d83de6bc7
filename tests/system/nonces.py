#!/usr/bin/env python3
"""A nonce attests once, however many try at the same time.

    nonces.py PAIRS [softhsm|nss|mock]

Begins PAIRS sessions and attests each of them twice at once, with the same good evidence, on two connections of a real
service. Wanted: of each pair one has a token and the other a 401, and the ledger counts as many. The two meet at
different points, as they come: one that is late finds the session attested, two that run side by side both have
evidence that holds and a token that was signed, and lose or win at the one UPDATE that decides. How many did the latter
is printed, because a run without any would show nothing. Exit status 1 if a nonce attested twice, or not once.
"""
import argparse
import json
import multiprocessing
import pathlib
import select
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from kbsguest import Guest, Http  # noqa: E402
from service import TOKENS, alone  # noqa: E402

LANES = 4
WORKERS = 4


class Pair:
    """A guest with two connections."""

    def __init__(self, url):
        self.guest = Guest(url)
        self.connections = [self.guest.http.connection, Http(url).connection]

    def begin(self):
        """Waits while the service says that there are too many who begin."""
        while True:
            answer = self.guest.auth()
            if answer.status != 429:
                assert answer.status == 200, (answer.status, answer.body)
                return
            select.poll().poll(1000 * int(answer.headers["retry-after"]))

    def attest(self):
        """The statuses of both answers, sorted, and what the one that lost was told."""
        body = json.dumps(self.guest.attestation()).encode()
        headers = {"Content-Type": "application/json", **self.guest.cookies()}
        for connection in self.connections:
            connection.request("POST", "/kbs/v0/attest", body, headers)
        answers = [connection.getresponse() for connection in self.connections]
        bodies = [answer.read() for answer in answers]
        self.connections.reverse()  # nobody is always the first
        return sorted(answer.status for answer in answers), b" ".join(bodies)


def work(url, pairs):
    """How many sessions attested once, twice, and otherwise (with the first of those answers)."""
    once, twice, other, first = 0, 0, 0, None
    pair = Pair(url)
    for _ in range(pairs):
        pair.begin()
        statuses, told = pair.attest()
        if statuses == [200, 401] and b"nonce already used" in told:
            once += 1
        elif statuses == [200, 200]:
            twice += 1
        else:
            other += 1
            first = first or (statuses, told[:300])
    return once, twice, other, first


def stress(service, pairs):
    service.add_plain_listener()
    service.start()
    shares = [pairs // WORKERS + (i < pairs % WORKERS) for i in range(WORKERS)]
    begun = time.monotonic()
    with multiprocessing.Pool(WORKERS) as pool:
        results = pool.starmap(work, [(service.plain_url, share) for share in shares])
    seconds = time.monotonic() - begun
    once, twice, other = (sum(result[i] for result in results) for i in range(3))
    outcomes = [record["outcome"] for record in service.records("attest")]
    attested, side_by_side = outcomes.count("attested"), outcomes.count("failed")
    assert service.stop() == 0
    print(f"  {pairs} sessions, each attested twice at once: {once} once, {twice} twice, {other} otherwise; {seconds:.1f} s, "
          f"{pairs / seconds:.0f} pairs/s\n  {side_by_side} pairs had both tokens signed before one of them lost; "
          f"the ledger counts {attested - side_by_side} attested", flush=True)
    for result in results:
        assert result[3] is None, result[3]
    assert (once, twice) == (pairs, 0) and attested - side_by_side == pairs
    assert side_by_side > 0, "no two ever met: nothing was shown"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=int)
    parser.add_argument("token", nargs="?", default="softhsm", choices=[*TOKENS, "mock"])
    arguments = parser.parse_args()
    print(f"{arguments.token}: {arguments.pairs} pairs", flush=True)
    with alone("nonces", arguments.token, LANES) as service:
        stress(service, arguments.pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
