"""What kbs-admin and kbs-guest are tested against: an admin listener and a KBS that know the protocols, and say what a test
tells them to."""
import base64
import hashlib
import json
import os

from cryptography.hazmat.primitives.asymmetric import ec

from stub import Stub, b64u, jwk, new_key, pem, run, thumbprint, unb64u, verify_signature, write_certificate

JSON = {"Content-Type": "application/json"}
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


def error(status, detail="because"):
    return status, JSON, {"type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny", "detail": detail}


def concat_kdf(private, public, apu=b"", apv=b""):
    """The key of ECDH-ES+A256KW between a private key and a JWK (RFC 7518 section 4.6)."""
    x, y = (int.from_bytes(unb64u(public[name]), "big") for name in "xy")
    z = private.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, CURVES[public["crv"]]).public_key())

    def sized(b):
        return len(b).to_bytes(4, "big") + b
    info = sized(b"ECDH-ES+A256KW") + sized(apu) + sized(apv) + (256).to_bytes(4, "big")
    return hashlib.sha256((1).to_bytes(4, "big") + z + info).digest()


class Admin:
    """A profile, and a server that checks every signature against it."""

    def __init__(self, folder):
        self.folder = folder
        self.key = new_key()
        self.import_key = new_key()
        self.seal_key = new_key()
        write_certificate(folder)
        (folder / "admin.key.pem").write_bytes(pem(self.key))
        self.pinned = thumbprint(self.import_key.public_key())
        self.pinned_seal = thumbprint(self.seal_key.public_key())
        self.nonces = []
        self.sequences = []
        self.answers = {}
        self.handlers = {}
        self.server = Stub(self.respond, tls=folder)
        self.write_profile()

    def write_profile(self, **changes):
        (self.folder / "profile.json").write_text(json.dumps(
            {"url": self.server.url, "ca": "cert.pem", "key": "admin.key.pem", "import_key": self.pinned,
             "seal_key": self.pinned_seal, **changes}))

    def respond(self, method, target, headers, body):
        if target == "/kbs/v0/admin/nonce":
            assert method == "GET" and "Kbs-Signature" not in headers
            self.nonces.append(b64u(os.urandom(16)))
            return 200, JSON, {"nonce": self.nonces[-1]}
        claims = verify_signature(headers["Kbs-Signature"], self.key.public_key(), method, target, body)
        assert claims["n"] == self.nonces.pop(), "a nonce is used once"
        self.sequences.append(claims["s"])
        if target == "/kbs/v0/admin/import-key" and target not in self.answers:
            return 200, JSON, {"key": jwk(self.import_key.public_key()), "thumbprint": self.pinned, "token": {}}
        if target == "/kbs/v0/admin/seal-key" and target not in self.answers:
            return 200, JSON, {"key": jwk(self.seal_key.public_key()), "thumbprint": self.pinned_seal, "version": 1}
        if target in self.handlers:
            return self.handlers[target](method, target, body)
        return self.answers.get((method, target)) or self.answers.get(target) or error(404, "no such key")

    def run(self, *argv, **kwargs):
        return run("kbs-admin", "--profile", self.folder / "profile.json", *argv, **kwargs)

    def mutations(self):
        return [(path, json.loads(body)) for method, path, _, body in self.server.seen if method == "POST"]


class Kbs:
    """auth and attest as docs/protocol/rcar.md, in either version; `keys` is a list of answers to requests for keys and resources, in turn; one
    that depends on the TEE key is a function of its JWK."""

    def __init__(self, *keys):
        self.keys = list(keys)
        self.cookies = []

    def __call__(self, method, target, headers, body):
        if target == "/kbs/v0/auth":
            self.version = json.loads(body)["version"]
            assert self.version in ("0.2.0", "0.4.0")
            self.cookies.append(os.urandom(16).hex())
            self.nonce = base64.b64encode(os.urandom(32)).decode()
            cookie = f"kbs-session-id={self.cookies[-1]}; Path=/; HttpOnly"
            return 200, {**JSON, "Set-Cookie": cookie}, {"nonce": self.nonce, "extra-params": ""}
        if f"kbs-session-id={self.cookies[-1]}" != headers.get("Cookie"):
            return error(401)
        if target == "/kbs/v0/attest":
            message = json.loads(body)
            old = self.version == "0.2.0"
            self.tee = message["tee-pubkey"] if old else message["runtime-data"]["tee-pubkey"]
            data = {"nonce": self.nonce, "tee-pubkey": self.tee} | ({} if old else {"additional-evidence": ""})
            text = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
            evidence = {"svn": "1", "report_data": base64.b64encode(hashlib.sha384(text).digest()).decode()}
            assert message == ({"tee-pubkey": self.tee, "tee-evidence": evidence} if old else {
                "init-data": None, "runtime-data": {"nonce": self.nonce, "tee-pubkey": self.tee},
                "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}})
            return 200, JSON, {"token": "head.body.tail"}
        assert (method, body) == ("GET", b"") if "/resource/" in target else method == "POST"
        answer = self.keys.pop(0)
        return answer(self.tee) if callable(answer) else answer
