"""Request smuggling over a socket: the byte strings of unit_http (`test_http --table`), sent to a running kbs-front whole,
cut, and behind an honest request. What comes back must be what the parser's table says, however the bytes arrive: each
request one answer, and after a refusal of unknown end nothing but the end of the connection.

The table is the parser's own test, so its expectations stand in one place, beside what RFC 9112 makes of each.
"""
import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

sys.path.insert(0, os.path.dirname(__file__))
from harness import TIMEOUT_S, Front  # noqa: E402

HONEST = b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n"
CUTS = 8  # of each string, evenly; unit_http cuts at every byte
SIOCOUTQ = termios.TIOCOUTQ


def table():
    done = subprocess.run([os.path.join(os.environ["KBS_BUILD_DIR"], "tests", "bin", "test_http"), "--table"], check=True,
                          capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [(row["name"], bytes.fromhex(row["bytes"]), words(bytes.fromhex(row["want"]))) for row in rows]


def words(want):
    """"auth[body]! 404 400x ..." as [(route, body, mark)]: route of an accepted request, or the status of a refusal."""
    found, at = [], 0
    for match in re.finditer(rb"(?:([a-z-]+)\[(.*?)\](!?)|([0-9]{3})(x?)|(\.\.\.))(?: |$)", want, re.S):
        assert match.start() == at, want
        at = match.end()
        route, body, last, status, close, rest = match.groups()
        found.append((route, body, bool(last)) if route is not None else (status, None, bool(close)) if status else
                     (b"...", None, False))
    assert at == len(want), want
    return found


def sent_and_read(sock, piece):
    """Sends, and waits until the front has taken it from the socket, so that what follows is another read."""
    sock.sendall(piece)
    end = time.monotonic() + TIMEOUT_S
    while struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, b"\0" * 4))[0]:
        assert time.monotonic() < end
        select.select([sock], [], [], 0.0005)


def exchange(front, data, cuts, want):
    """Every answer on one connection, in the table's words."""
    with front.connect_unix() as client:
        try:
            for begin, end in zip([0, *cuts], [*cuts, len(data)]):
                sent_and_read(client.sock, data[begin:end])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed already; what it said is still to be read
        return list(answers(client, want, data.startswith(b"HEAD ")))


def answers(client, want, head_only):
    for word, body, last in want:
        if word == b"...":
            break
        answer = client.answer(head_only)
        if answer.status == 100:
            answer = client.answer()
        assert answer.headers["connection"] == ("close" if last else "keep-alive"), word
        if word.isdigit():
            assert answer.status == int(word)
            assert head_only or set(json.loads(answer.body)) == {"type", "detail"}
        else:
            assert answer.status == 200, answer.body
            if word not in (b"healthz",):
                assert answer.body[:32] == body, (word, answer.body)
        yield answer.status
    if not (want and want[-1][2]):  # it goes on, or waits for more: the end is ours to make
        client.sock.shutdown(1)
    assert client.closed(), "bytes behind the last answer"


@pytest.fixture(scope="module")
def front():
    with Front() as one:
        one.judges[0].serve(lambda request: {"body": request.body})
        yield one


def cuts_of(data):
    return sorted({len(data) * i // (CUTS + 1) for i in range(1, CUTS + 1)} - {0})


def test_every_class_has_one_reading(front):
    cases = table()
    counts = {}
    for name, data, want in cases:
        text = b" ".join(word + (b"x" if last and word.isdigit() else b"!" if last else b"") for word, _, last in want)
        variants = [[]] + [[cut] for cut in cuts_of(data)]
        try:
            for cuts in variants:
                exchange(front, data, cuts, want)
            honest = (b"healthz", b"", False)
            if not data.startswith(b"HEAD "):  # its answer has no end that a reader behind another could tell
                exchange(front, HONEST + data, [], [honest, *want])
                exchange(front, HONEST + data, [len(HONEST) + len(data) // 2], [honest, *want])
        except (AssertionError, EOFError, ValueError) as problem:
            raise AssertionError(f"{name}: {data!r}: wanted {want}") from problem
        counts[text.split()[-1] if text else b""] = counts.get(text.split()[-1] if text else b"", 0) + 1
        print(f"{text.decode():24} {name}")
    print(f"{len(cases)} byte strings, " + ", ".join(f"{n} end with {word.decode() or 'nothing'}"
                                                      for word, n in sorted(counts.items())))
    assert len(cases) >= 380
    # and it still serves
    with front.connect() as client:
        assert client.get("/healthz").status == 200
