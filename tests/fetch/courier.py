"""kbs-fetch alone, with the test in the place of kbsd, fronts and judges: it is configured over its control channel and
asked over the channels it is handed. The messages are src/wire/message.h's, written out once more by hand."""
import array
import os
import re
import select
import signal
import socket
import struct
import subprocess
from pathlib import Path

BIN = Path(os.environ["KBS_BIN_DIR"])
LIMIT_S = 20
(ATTACH, READY, LEAVING, CONFIG_FETCH, FETCH, FETCHED, CACHED_WANT, CACHED, GO, DRAIN) = (
    5, 6, 9, 13, 18, 19, 20, 21, 64, 65)
FRONT, JUDGE, CLIENT_KEY, HEADERS = 5, 8, 17, 18
DONE, FAILED, TIMEOUT, LARGE, OPEN, REFUSED = range(1, 7)
NO_GRPC = 0xFFFFFFFF


def u8(n):
    return struct.pack("<B", n)


def u32(n):
    return struct.pack("<I", n)


def data(b):
    b = b.encode() if isinstance(b, str) else b
    return u32(len(b)) + b


def items(values):
    return struct.pack("<H", len(values)) + b"".join(map(data, values))


def frame(kind, body=b"", number=0):
    return struct.pack("<IHHQQQ", len(body), 1, kind, number, 2**64 - 1, 0) + body


class Reader:
    def __init__(self, body):
        self.body = body

    def take(self, n):
        assert len(self.body) >= n
        head, self.body = self.body[:n], self.body[n:]
        return head

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.take(8))[0]

    def data(self):
        return self.take(self.u32())


class Fetched:
    def __init__(self, body):
        r = Reader(body)
        self.outcome, self.status, self.grpc = r.u8(), r.u32(), r.u32()
        self.content_type, self.body, self.detail = r.data().decode(), r.data(), r.data().decode()
        assert r.body == b""

    def __repr__(self):
        return f"<{self.outcome} {self.status} {self.grpc} {self.content_type} {self.body[:40]} {self.detail!r}>"


class Channel:
    def __init__(self, sock):
        self.sock, self.numbers = sock, 0
        sock.settimeout(LIMIT_S)

    def exactly(self, n):
        got = b""
        while len(got) < n:
            part = self.sock.recv(n - len(got))
            if not part:
                return None
            got += part
        return got

    def receive(self):
        """(type, id, body); None at the end of the channel."""
        try:
            head = self.exactly(32)
        except ConnectionResetError:
            head = None
        if head is None:
            return None
        length, _, kind, number = struct.unpack("<IHHQ", head[:16])
        return kind, number, self.exactly(length)

    def silent(self):
        return not select.select([self.sock], [], [], 0)[0]

    def send(self, endpoint, suffix="", body=None, content_type="", accept="", limit=1 << 20, method=None):
        """A FETCH; returns its number."""
        self.numbers += 1
        method = (0 if body is None else 1) if method is None else method
        self.sock.sendall(frame(FETCH, data(endpoint) + u8(method) + data(suffix) + data(content_type) + data(accept)
                                + data(body or b"") + u32(limit), self.numbers))
        return self.numbers

    def fetched(self):
        """(number, Fetched)"""
        kind, number, body = self.receive()
        assert kind == FETCHED
        return number, Fetched(body)

    def fetch(self, *args, **kwargs):
        number = self.send(*args, **kwargs)
        answered, fetched = self.fetched()
        assert answered == number
        return fetched

    def cached(self, name, look_again=False):
        """(content, Unix time), or None."""
        self.numbers += 1
        self.sock.sendall(frame(CACHED_WANT, data(name) + u8(look_again), self.numbers))
        kind, number, body = self.receive()
        assert (kind, number) == (CACHED, self.numbers)
        r = Reader(body)
        there, fetched_s, content = r.u8(), r.u64(), r.data()
        return (content, fetched_s) if there else None


def endpoint(name, url, ca="", certificate="", timeout_ms=5000, connect_ms=3000, retries=0, http2=False, parallel=16,
             failures=0, open_ms=1000, keep_days=0):
    return (data(name) + data(url) + data(ca) + data(certificate) + u32(timeout_ms) + u32(connect_ms) + u32(retries)
            + u8(http2) + u32(parallel) + u32(failures) + u32(open_ms) + u32(keep_days))


def document(name, url, ca="", timeout_ms=5000, refresh_s=3600, discovery=False, hosts=()):
    return data(name) + data(url) + data(ca) + u32(timeout_ms) + u32(refresh_s) + u8(discovery) + items(hosts)


class Courier:
    """With `secrets`: (what, endpoint, path) of files to hand over."""

    def __init__(self, endpoints=(), documents=(), cache="", secrets=(), production=True, ready=True, wrapper=()):
        ours, theirs = socket.socketpair()
        self.control = Channel(ours)
        self.log = b""
        # As kbsd does it: /dev/null, standard error, and the control channel on 3. Ours are closed on exec.
        self.process = subprocess.Popen(
            [*wrapper, BIN / "kbs-fetch"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            close_fds=False, preexec_fn=lambda: os.dup2(theirs.fileno(), 3), env={})
        theirs.close()
        os.set_blocking(self.process.stderr.fileno(), False)
        ours.sendall(frame(CONFIG_FETCH, u8(production) + data(str(cache)) + items(endpoints) + items(documents)))
        for what, index, path in secrets:
            with open(path, "rb") as file:
                self.attach(what, index, file.fileno())
        try:
            ours.sendall(frame(GO))
        except BrokenPipeError:
            assert not ready
        if ready:
            kind, _, body = self.control.receive() or (None, None, None)
            assert kind == READY, self.text()

    def attach(self, what, index, fd):
        message = frame(ATTACH, u8(what) + u32(index))
        self.control.sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])

    def peer(self, what):
        ours, theirs = socket.socketpair()
        self.attach(what, 0, theirs.fileno())
        theirs.close()
        return Channel(ours)

    def front(self):
        return self.peer(FRONT)

    def judge(self):
        return self.peer(JUDGE)

    def text(self):
        """Its log so far."""
        try:
            while part := self.process.stderr.read():
                self.log += part
        except TypeError:
            pass
        return self.log.decode()

    def said(self, pattern):
        return re.search(pattern, self.text())

    def wait_log(self, pattern):
        while not self.said(pattern):
            assert select.select([self.process.stderr], [], [], LIMIT_S)[0], f"{pattern} not in {self.text()}"
            assert self.process.poll() is None or self.said(pattern), self.text()

    def status(self):
        return self.process.wait(LIMIT_S)

    def drain(self):
        self.control.sock.sendall(frame(DRAIN))
        assert self.status() == 0, self.text()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if self.process.poll() is None and kind is None:
                self.drain()
        finally:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
            self.control.sock.close()
            if kind is not None:
                print(self.text())
