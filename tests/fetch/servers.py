"""The other side: HTTP servers on loopback that answer as they are told, well or badly."""
import http.server
import socket
import ssl
import threading


class Server:
    """`answers`: path without query -> function(handler). Records what it was asked in `requests`."""

    def __init__(self, answers, tls=None, unix=None):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                length = int(self.headers.get("content-length", 0))
                self.body = self.rfile.read(length)
                with outer.changed:
                    outer.requests.append((self.command, self.path, dict(self.headers), self.body))
                    outer.changed.notify_all()
                answer = outer.answers.get(self.path.split("?")[0])
                if answer is None:
                    self.reply(404, b"none")
                else:
                    answer(self)

            do_GET = do_POST = answer

            def reply(self, status, body, content_type="application/octet-stream", **headers):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(body)

            def address_string(self):
                return "client"

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass

            def finish_request(self, request, address):
                with outer.changed:
                    outer.connections += 1
                if tls is not None:
                    request.settimeout(10)
                    request = tls.wrap_socket(request, server_side=True)
                super().finish_request(request, address)

        if unix is not None:
            class Unix(Quiet):
                address_family = socket.AF_UNIX

                def server_bind(self):
                    self.socket.bind(self.server_address)
                    self.server_name, self.server_port = "localhost", 0
            Quiet = Unix

        self.answers, self.requests, self.connections = dict(answers), [], 0
        self.changed = threading.Condition()
        self.released = threading.Event()
        self.server = Quiet(str(unix) if unix is not None else ("127.0.0.1", 0), Handler)
        self.port = None if unix is not None else self.server.server_address[1]
        self.url = f"unix:{unix}" if unix is not None else f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def wait(self, n):
        """Until n requests have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= n, 20), self.requests

    def hang(self, handler):
        """Answers when the test lets go."""
        self.released.wait(20)
        handler.reply(200, b"late")

    def stop(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def ok(body=b"ok", status=200, content_type="application/json", **headers):
    return lambda handler: handler.reply(status, body, content_type, **headers)


def in_turn(*answers):
    """Each once, the last for ever."""
    left = list(answers)

    def answer(handler):
        (left.pop(0) if len(left) > 1 else left[0])(handler)
    return answer


def die_in_the_middle(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"half")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def garbage(handler):
    handler.wfile.write(b"\x00\x01 this is not HTTP\r\n\r\n")
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


def endless(handler):
    """A body without an end."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    except OSError:
        pass


def endless_headers(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        while True:
            handler.wfile.write(b"X-More: " + b"y" * 1000 + b"\r\n")
    except OSError:
        pass


def unused_port():
    """One that nobody listens on, for as long as the socket that is returned with it lives."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1], s
