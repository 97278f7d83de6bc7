"""Plays kbsd and the judges for a real kbs-front.

The wire format is written out here a second time, from docs/protocol/role-channels.md and the comments in
src/wire/message.h, so that a mistake in the C encoder is not repeated by its own decoder.
"""
import array
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time

CONFIG_FRONT, CONFIG_TLS, ATTACH, READY, DETACH, REQUEST, RESPONSE, FETCH, FETCHED, GO, DRAIN = 1, 23, 5, 6, 11, 16, 17, 18, 19, 64, 65
LISTENER_TLS, LISTENER_PLAIN, TLS_KEY, LANE, ATTACH_FETCH = 1, 2, 3, 4, 16
DONE, FAILED = 1, 2  # enum kbs_fetch_outcome
GUEST, ADMIN = 1, 2
HEADER = struct.Struct("<IHHQQQ")
TIMEOUT_S = 10


def packed_bytes(value):
    return struct.pack("<I", len(value)) + value


def frame(kind, ident, body):
    return HEADER.pack(len(body), 1, kind, ident, 2**64 - 1, 0) + body


def recv_exact(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {n} bytes")
        data += piece
    return data


class Fields:
    """Reads the fields of a body in order."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def take(self, n):
        piece = self.body[self.at:self.at + n]
        assert len(piece) == n, "field cut short"
        self.at += n
        return piece

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return struct.unpack("<I", self.take(4))[0]

    def bytes(self):
        return self.take(struct.unpack("<I", self.take(4))[0])

    def list(self):
        return [self.bytes() for _ in range(struct.unpack("<H", self.take(2))[0])]


class Fetched:
    """An answer that a request was sent again with."""

    def __init__(self, body):
        f = Fields(body)
        self.outcome, self.status, self.grpc_status = f.u8(), f.u32(), f.u32()
        self.content_type, self.body, self.detail = f.bytes(), f.bytes(), f.bytes()
        assert f.at == len(body), "bytes left over"


class Request:
    def __init__(self, ident, deadline_ns, body):
        self.id, self.deadline_ns = ident, deadline_ns
        f = Fields(body)
        self.route, self.listener = f.u8(), f.u8()
        self.peer, self.method, self.target = f.bytes(), f.bytes(), f.bytes()
        self.params, self.query = f.list(), f.list()
        self.cookie, self.authorization, self.accept = f.bytes(), f.bytes(), f.bytes()
        self.content_type, self.signature, self.body = f.bytes(), f.bytes(), f.bytes()
        self.fetched = [Fetched(item) for item in f.list()]
        self.proof = f.bytes()
        self.channel = f.bytes()
        assert f.at == len(body), "bytes left over"


def response_body(status=200, content_type=b"application/json", cookie=b"", expires=0, retry_after=0, body=b"{}", receipt=b""):
    return (struct.pack("<I", status) + packed_bytes(content_type) + packed_bytes(cookie)
            + struct.pack("<QI", expires, retry_after) + packed_bytes(body) + packed_bytes(receipt))


class Judge:
    """The judge's end of one lane."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(TIMEOUT_S)

    def request(self):
        length, version, kind, ident, deadline, reserved = HEADER.unpack(recv_exact(self.sock, HEADER.size))
        assert (version, kind, reserved) == (1, REQUEST, 0)
        return Request(ident, deadline, recv_exact(self.sock, length))

    def answer(self, request, **fields):
        self.sock.sendall(frame(RESPONSE, request.id, response_body(**fields)))

    def fetch(self, request, endpoint=b"as", method=1, suffix=b"/attestation", body=b"{}", most=65536):
        """In the place of an answer."""
        self.sock.sendall(frame(FETCH, request.id, packed_bytes(endpoint) + bytes([method]) + packed_bytes(suffix)
                                + packed_bytes(b"application/json") + packed_bytes(b"") + packed_bytes(body)
                                + struct.pack("<I", most)))

    def serve(self, handler=None):
        """Answers everything in a thread until the front closes the lane."""
        def run():
            try:
                while True:
                    request = self.request()
                    fields = handler(request) if handler else {"body": request.body or b"{}"}
                    self.answer(request, **fields)
            except (EOFError, OSError):
                pass
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def idle(self):
        """True when nothing has been sent to this judge."""
        return not select.select([self.sock], [], [], 0)[0]

    def closed(self):
        """Waits until the front has closed this lane."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()


def fetched_body(outcome=DONE, status=200, body=b"token", detail=b""):
    return (struct.pack("<BII", outcome, status, 2**32 - 1) + packed_bytes(b"text/plain") + packed_bytes(body)
            + packed_bytes(detail))


class Want:
    def __init__(self, ident, deadline_ns, body):
        self.id, self.deadline_ns = ident, deadline_ns
        f = Fields(body)
        self.endpoint, self.method, self.suffix = f.bytes(), f.u8(), f.bytes()
        self.content_type, self.accept, self.body, self.max = f.bytes(), f.bytes(), f.bytes(), f.u32()
        assert f.at == len(body), "bytes left over"


class Fetch(Judge):
    """kbs-fetch's end of its channel to the front."""

    def want(self):
        length, version, kind, ident, deadline, reserved = HEADER.unpack(recv_exact(self.sock, HEADER.size))
        assert (version, kind, reserved) == (1, FETCH, 0)
        return Want(ident, deadline, recv_exact(self.sock, length))

    def fetched(self, want, **fields):
        self.sock.sendall(frame(FETCHED, want.id, fetched_body(**fields)))


class Credentials:
    def __init__(self, folder):
        self.key, self.cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", "/CN=kbs",
                        "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)


class Front:
    """A running kbs-front with one listener of each kind: plain TCP, TLS (with credentials), unix."""

    def __init__(self, lanes=1, listener=GUEST, max_connections=64, credentials=None, program="kbs-front",
                 attach=True, start=True, **limits):
        self.folder = tempfile.TemporaryDirectory()
        self.credentials = credentials
        self.plain = socket.create_server(("127.0.0.1", 0))
        self.unix_path = os.path.join(self.folder.name, "sock")
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(self.unix_path)
        self.unix.listen()
        self.tls = socket.create_server(("127.0.0.1", 0)) if credentials else None
        self.control, theirs = socket.socketpair()
        self.control.settimeout(TIMEOUT_S)
        self.log_path = os.path.join(self.folder.name, "log")
        if program == "kbs-front":
            path = os.path.join(os.environ["KBS_BIN_DIR"], program)
        else:  # built for the tests only
            path = os.path.join(os.environ["KBS_BUILD_DIR"], "tests", "bin", program)
        self.pid = os.posix_spawn(path, [path], dict(os.environ), file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)])
        theirs.close()
        self.status = None
        self.judges = []
        if start:
            self.configure(listener, lanes, max_connections, **limits)
            self.go()
            if attach:
                self.judges = [self.attach_lane(i) for i in range(lanes)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Every test ends with this: end of file on the control channel, a clean exit, nothing reported."""
        expected = self.status  # a test that has looked at the status has judged it
        self.control.close()
        status = self.wait()
        for judge in self.judges:
            judge.close()
        for sock in (self.plain, self.unix, self.tls):
            if sock:
                sock.close()
        log = self.log()
        self.folder.cleanup()
        assert "AddressSanitizer" not in log and "runtime error" not in log, log
        assert status == (expected or 0), (status, log)

    def send(self, kind, body, fd=None):
        data = frame(kind, 0, body)
        if fd is None:
            self.control.sendall(data)
        else:
            self.control.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])

    def configure(self, listener=GUEST, lanes=1, max_connections=64, certificate=None, auth_per_s=0, body_bytes=2 << 20):
        if certificate is None:
            certificate = open(self.credentials.cert, "rb").read() if self.credentials else b""
        self.send(CONFIG_FRONT, struct.pack("<BBIIII", listener, 0, lanes, max_connections, auth_per_s, body_bytes))
        if certificate:
            self.send(CONFIG_TLS, packed_bytes(certificate) + packed_bytes(b"") + struct.pack("<IBB", 0, 3, 3)
                      + packed_bytes(b"") + packed_bytes(b""))

    def attach(self, what, fd, index=0):
        self.send(ATTACH, struct.pack("<BI", what, index), fd)

    def attach_listeners(self):
        self.attach(LISTENER_PLAIN, self.plain.fileno())
        self.attach(LISTENER_PLAIN, self.unix.fileno())
        if self.tls:
            self.attach(LISTENER_TLS, self.tls.fileno())
            with open(self.credentials.key, "rb") as key:
                self.attach(TLS_KEY, key.fileno())

    def go(self):
        self.attach_listeners()
        self.send(GO, b"")
        length, _, kind, _, _, _ = HEADER.unpack(recv_exact(self.control, HEADER.size))
        assert kind == READY
        recv_exact(self.control, length)

    def attach_lane(self, index):
        ours, theirs = socket.socketpair()
        self.attach(LANE, theirs.fileno(), index)
        theirs.close()
        return Judge(ours)

    def attach_fetch(self):
        ours, theirs = socket.socketpair()
        self.attach(ATTACH_FETCH, theirs.fileno())
        theirs.close()
        fetch = Fetch(ours)
        self.judges.append(fetch)  # closed with them
        self.until("kbs_fetch_attached", 1)
        return fetch

    def detach_lane(self, index):
        self.send(DETACH, struct.pack("<I", index))

    def drain(self):
        self.send(DRAIN, b"")

    def wait(self):
        """The exit status; a front that does not end in time is killed and fails the test."""
        if self.status is None:
            pidfd = os.pidfd_open(self.pid)
            if not select.select([pidfd], [], [], 20)[0]:
                os.kill(self.pid, signal.SIGKILL)
            os.close(pidfd)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def connect(self):
        return Client(socket.create_connection(self.plain.getsockname()[:2], TIMEOUT_S))

    def connect_unix(self):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT_S)
        sock.connect(self.unix_path)
        return Client(sock)

    def connect_tls(self, **options):
        context = ssl.create_default_context(cafile=self.credentials.cert)
        for name, value in options.items():
            setattr(context, name, value)
        sock = socket.create_connection(self.tls.getsockname(), TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Client(context.wrap_socket(sock, server_hostname="127.0.0.1"))

    def metrics(self):
        """The metrics as {"name{labels}": value}."""
        with self.connect() as client:
            text = client.get("/metrics").body.decode()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if not line.startswith("#")}

    def until(self, name, value):
        """Waits until a metric has a value; each look is a request, which is progress enough without sleeping."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if self.metrics().get(name, 0) == value:
                return
        raise AssertionError(f"{name} never became {value}: {self.metrics()}")

    def until_log(self, text):
        """Waits until the log says so, in the same way."""
        end = time.monotonic() + TIMEOUT_S
        while text not in self.log():
            assert time.monotonic() < end, f"{text} never logged: {self.log()}"
            self.metrics()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Client:
    """A connection of which every byte is the test's."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def fill(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError(self.buffer)
        self.buffer += piece

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def answer(self, head_only=False):
        version, status, _ = self.line().split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = {}
        while (line := self.line()) != b"":
            name, value = line.split(b": ", 1)
            assert name.lower() not in headers
            headers[name.lower().decode()] = value.decode()
        length = 0 if head_only or status == b"100" else int(headers["content-length"])
        while len(self.buffer) < length:
            self.fill()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Answer(int(status), headers, body)

    def get(self, target, headers=b""):
        self.send(b"GET " + target.encode() + b" HTTP/1.1\r\nHost: kbs\r\n" + headers + b"\r\n")
        return self.answer()

    def post(self, target, body=b"", headers=b""):
        self.send_post(target, body, headers)
        return self.answer()

    def send_post(self, target, body=b"", headers=b""):
        self.send(b"POST " + target.encode() + b" HTTP/1.1\r\nHost: kbs\r\nContent-Length: "
                  + str(len(body)).encode() + b"\r\n" + headers + b"\r\n" + body)

    def closed(self):
        """Waits for the end of the connection; True when nothing came before it."""
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
