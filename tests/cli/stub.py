"""An HTTP(S) server for tests of the tools: answers what a test tells it and keeps what it was sent."""
import base64
import datetime
import hashlib
import http.server
import ipaddress
import json
import os
import pathlib
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

BIN = pathlib.Path(os.environ["KBS_BIN_DIR"])


def run(program, *argv, **kwargs):
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **kwargs.pop("env", {})}
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([BIN / program, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=120, env=env, **kwargs)


def b64u(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwk(public):
    n = public.public_numbers()
    return {"crv": "P-256", "kty": "EC", "x": b64u(n.x.to_bytes(32, "big")), "y": b64u(n.y.to_bytes(32, "big"))}


def thumbprint(public):
    return b64u(hashlib.sha256(json.dumps(jwk(public), separators=(",", ":")).encode()).digest())


def new_key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def write_certificate(folder, address="127.0.0.1"):
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stub")])
    now = datetime.datetime.utcnow()
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False)
            .sign(key, hashes.SHA256()))
    (folder / "key.pem").write_bytes(pem(key))
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def verify_signature(jws, public, method, target, body):
    """The checks of docs/protocol/admin-api.md; returns the payload."""
    header, payload, signature = jws.split(".")
    raw = unb64u(signature)
    assert len(raw) == 64
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    public.verify(der, f"{header}.{payload}".encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(unb64u(header)) == {"alg": "ES256", "kid": thumbprint(public), "typ": "kbs-admin"}
    claims = json.loads(unb64u(payload))
    assert set(claims) == {"m", "p", "b", "n", "s", "exp"}
    assert (claims["m"], claims["p"]) == (method, target)
    assert claims["b"] == b64u(hashlib.sha256(body).digest())
    return claims


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        status, headers, text = self.server.respond(self.command, self.path, self.headers, body)
        raw = text if isinstance(text, bytes) else json.dumps(text).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *args):
        pass


class Stub(http.server.ThreadingHTTPServer):
    """respond(method, target, headers, body) -> (status, headers, body)"""

    def __init__(self, respond, tls=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.seen = []
        scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of some tests

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
