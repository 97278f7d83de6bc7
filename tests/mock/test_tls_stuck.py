"""A token that does not sign for TLS: whoever is connected is not moved, whoever connects waits for a bounded time, and the sign
worker is replaced."""
import socket
import ssl
import time

from service import wait_until
from test_tls import address, connect, healthy, hold_key, serving, signers

HANDSHAKES = 24  # more than there are channels to the sign worker


def begin(service):
    """A handshake that is begun and not waited for: the ClientHello is sent."""
    raw = socket.create_connection(address(service.guest_url), 30)
    raw.setblocking(False)
    context = ssl.create_default_context(cafile=service.ca)
    secure = context.wrap_socket(raw, server_hostname=address(service.guest_url)[0], do_handshake_on_connect=False)
    try:
        secure.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return secure


def slowest(connections, seconds):
    """Of /healthz over these connections in turn, for that long."""
    worst, n, end = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for one in connections:
            status, took = healthy(one)
            assert status == 200
            worst, n = max(worst, took), n + 1
    return worst, n


def test_a_token_that_hangs_moves_no_connection(make_mock):
    service, token = make_mock(lanes=1)
    hold_key(service).start()
    (worker,) = signers(service)
    connections = [connect(service.guest_url, service.ca) for _ in range(4)]
    before, n_before = slowest(connections, 2)
    token.script("C_Sign always hang")
    waiting = [begin(service) for _ in range(HANDSHAKES)]
    wait_until(lambda: token.faults("C_Sign") >= 16, what="all channels hang")
    during, n_during = slowest(connections, 4)
    print(f"/healthz on established connections: slowest of {n_before} before {1000 * before:.1f} ms, "
          f"slowest of {n_during} while {HANDSHAKES} handshakes hang {1000 * during:.1f} ms")
    assert n_during > n_before  # twice the time: not even half as fast
    token.script()
    wait_until(lambda: signers(service) not in ([], [worker]), 40, "the sign worker is replaced")
    assert serving(service.guest_url, service.ca)
    assert slowest(connections, 0.1)[1] > 0
    log = service.log_text()
    assert "has not answered for" in log and "handshake-unsigned" in log
    for one in waiting + connections:
        one.close()
    assert service.stop() == 0
