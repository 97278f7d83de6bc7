"""A host proxy between guest and service that changes what it carries: kbs-guest refuses each change."""
import http.server
import json
import os
import threading
import urllib.request

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kbsguest import b64u, unb64u
from service import BIN, run


class Proxy(http.server.ThreadingHTTPServer):
    """Forwards everything; `change` maps the body of a released key to another."""

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.change, self.changed = upstream, None, 0
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server_address[1]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        keep = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "accept", "cookie")}
        request = urllib.request.Request(self.server.upstream + self.path, body, keep, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, headers, out = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            status, headers, out = answer.code, answer.headers, answer.read()
        if status == 200 and "/key/" in self.path and self.server.change is not None:
            out = self.server.change(out)
            self.server.changed += 1
        self.send_response(status)
        for name in ("Content-Type", "Set-Cookie"):
            if headers.get(name):
                self.send_header(name, headers[name])
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, *args):
        pass


@pytest.fixture
def road(make_service):
    soft = make_service("softhsm")
    soft.add_plain_listener()
    soft.start()
    soft.generate("default/disk/vm1")
    soft.generate("default/disk/vm2")
    proxy = Proxy(soft.plain_url)
    yield soft, proxy
    proxy.shutdown()
    proxy.server_close()


def other_point():
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    return numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")


def flip(text):
    data = bytearray(unb64u(text))
    data[len(data) // 2] ^= 1
    return b64u(bytes(data))


def jose(mutate):
    def change(body):
        message = json.loads(body)
        mutate(message)
        return json.dumps(message).encode()
    return change


def set_epk(m):
    x, y = other_point()
    m["header"]["epk"].update(x=b64u(x), y=b64u(y))


JOSE_CHANGES = {
    "kid": lambda m: m["header"].update(kid="default/disk/vm2/v1"),
    "kid version": lambda m: m["header"].update(kid="default/disk/vm1/v2"),
    "epk": set_epk,
    "epk off its curve": lambda m: m["header"]["epk"].update(y=flip(m["header"]["epk"]["y"])),
    "encrypted_key": lambda m: m.update(encrypted_key=flip(m["encrypted_key"])),
    "encrypted_key short": lambda m: m.update(encrypted_key=b64u(unb64u(m["encrypted_key"])[:-8])),
    "apu": lambda m: m["header"].update(apu=b64u(b"default/disk/vm2/v1")),
    "apv": lambda m: m["header"].update(apv=flip(m["header"]["apv"])),
    "no party info": lambda m: (m["header"].pop("apu"), m["header"].pop("apv")),
    "alg": lambda m: m["header"].update(alg="ECDH-ES+A128KW"),
}


def set_cose(label, value):
    def mutate(recipient):
        recipient[1][label] = value(recipient[1].get(label)) if callable(value) else value
    return mutate


def set_protected(kid):
    def mutate(recipient):
        recipient[0] = cbor2.dumps({1: -31, 4: kid})
    return mutate


def set_wrapped(recipient):
    wrapped = bytearray(recipient[2])
    wrapped[3] ^= 1
    recipient[2] = bytes(wrapped)


def set_cose_epk(recipient):
    x, y = other_point()
    recipient[1][-1].update({-2: x, -3: y})


COSE_CHANGES = {
    "kid": set_protected(b"default/disk/vm2/v1"),
    "epk": set_cose_epk,
    "encrypted_key": set_wrapped,
    "party U": set_cose(-21, b"default/disk/vm2/v1"),
    "party V": set_cose(-25, os.urandom(32)),
    "salt added": set_cose(-20, b"salt"),
}


def cose(mutate):
    def change(body):
        message = cbor2.loads(body)
        mutate(message.value[3][0])
        return cbor2.dumps(message)
    return change


def get(proxy, *options):
    return run(BIN / "kbs-guest", "get-key", "default/disk/vm1", "--url", proxy.url, *options, check=False)


def test_an_honest_proxy_is_no_obstacle(road):
    soft, proxy = road
    for options in ([], ["--cose"]):
        proxy.change = lambda body: body
        done = get(proxy, *options)
        assert done.returncode == 0, done.stderr
        assert soft.admin_json("key", "show", "default/disk/vm1")["kcv"] in done.stdout


def test_a_changed_answer_is_refused(road):
    _, proxy = road
    for name, mutate in JOSE_CHANGES.items():
        proxy.change, before = jose(mutate), proxy.changed
        done = get(proxy)
        assert proxy.changed > before
        assert done.returncode != 0 and done.stdout == "", f"{name}: {done.stdout}"
        assert done.stderr.strip(), name
    for name, mutate in COSE_CHANGES.items():
        proxy.change, before = cose(mutate), proxy.changed
        done = get(proxy, "--cose")
        assert proxy.changed > before
        assert done.returncode != 0 and done.stdout == "", f"{name}: {done.stdout}"
        assert done.stderr.strip(), name


def test_the_answer_of_another_request_is_refused(road):
    """A replayed answer: right key, right session shape, another handshake and nonce."""
    soft, proxy = road
    kept = []

    def keep_first(body):
        kept.append(body)
        return kept[0]
    proxy.change = keep_first
    assert get(proxy).returncode == 0
    done = get(proxy)
    assert len(kept) == 2 and done.returncode != 0


def test_another_keys_answer_is_refused(road, tmp_path):
    soft, proxy = road
    proxy.change = None
    real = Handler.do_POST

    def swapped(self):
        self.path = self.path.replace("/vm1", "/vm2")
        real(self)
    Handler.do_POST = swapped
    try:
        done = get(proxy)
    finally:
        Handler.do_POST = real
    assert done.returncode != 0 and done.stdout == ""
