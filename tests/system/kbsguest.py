"""An independent guest: the RCAR handshake and the opening of a released key, written from the standards with
python3-cryptography and python3-cbor2. It shares no code with the product, so that both cannot be wrong alike."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import ssl
import struct
import urllib.parse

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

CURVES = {"P-256": (ec.SECP256R1(), 32, 1), "P-384": (ec.SECP384R1(), 48, 2), "P-521": (ec.SECP521R1(), 66, 3)}
ALG = "ECDH-ES+A256KW"


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jcs(value):
    """RFC 8785 for what the handshake hashes: objects of ASCII strings."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def kcv(key):
    return hmac.new(key, b"kbs-kcv", hashlib.sha256).digest()[:4].hex()


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self):
        return json.loads(self.body)


class Http:
    """One connection, reopened when the server closed it."""

    def __init__(self, url, cafile=None):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=cafile)
            self.connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=30, context=context)
        else:
            self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def request(self, method, target, body=None, headers=None):
        for attempt in (0, 1):
            try:
                self.connection.request(method, target, body=body, headers=headers or {})
                return Answer(self.connection.getresponse())
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.connection.close()
                if attempt:
                    raise

    def close(self):
        self.connection.close()


class Guest:
    def __init__(self, url, cafile=None, curve="P-256", key=None):
        self.http = Http(url, cafile)
        self.curve = curve
        self.key = key or ec.generate_private_key(CURVES[curve][0])
        self.cookie = None
        self.token = None
        self.digest = None

    def close(self):
        self.http.close()

    def jwk(self):
        size = CURVES[self.curve][1]
        numbers = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": self.curve, "alg": ALG, "x": b64u(numbers.x.to_bytes(size, "big")),
                "y": b64u(numbers.y.to_bytes(size, "big"))}

    def pem(self):
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption())

    def cookies(self):
        return {"Cookie": "kbs-session-id=" + self.cookie} if self.cookie else {}

    def auth(self, **changes):
        message = {"version": "0.4.0", "tee": "sample", "extra-params": ""}
        message.update(changes)
        answer = self.http.request("POST", "/kbs/v0/auth", json.dumps(message),
                                   {"Content-Type": "application/json"})
        if answer.status == 200:
            self.cookie = answer.headers["set-cookie"].split(";")[0].split("=", 1)[1]
            self.nonce = answer.json()["nonce"]
        return answer

    def attestation(self, jwk=None, nonce=None, report_data=None):
        jwk = jwk or self.jwk()
        nonce = nonce if nonce is not None else self.nonce
        known = {name: jwk[name] for name in ("alg", "crv", "kty", "x", "y") if name in jwk}
        self.digest = hashlib.sha384(jcs({"tee-pubkey": known, "nonce": nonce, "additional-evidence": ""})).digest()
        data = self.digest if report_data is None else report_data
        evidence = {"svn": "1", "report_data": base64.b64encode(data).decode()}
        return {"init-data": None, "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
                "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}}

    def attest(self, message=None, raw=None):
        body = raw if raw is not None else json.dumps(message if message is not None else self.attestation())
        answer = self.http.request("POST", "/kbs/v0/attest", body,
                                   {"Content-Type": "application/json", **self.cookies()})
        if answer.status == 200:
            self.token = answer.json()["token"]
        return answer

    def handshake(self):
        answer = self.auth()
        assert answer.status == 200, answer.body
        answer = self.attest()
        assert answer.status == 200, answer.body
        return self

    def get_key(self, path, accept="application/jose+json", nonce=None, salt=None, query="", headers=None):
        body = {}
        if nonce is not None:
            body["nonce"] = b64u(nonce)
        if salt is not None:
            body["salt"] = b64u(salt)
        all_headers = {"Accept": accept, **(self.cookies() if headers is None else headers)}
        if body:
            all_headers["Content-Type"] = "application/json"
        return self.http.request("POST", "/kbs/v0/key/" + path + query, json.dumps(body) if body else None,
                                 all_headers)

    def party_v(self, nonce=None):
        return hashlib.sha256(b"kbs-v1" + self.digest + (nonce or bytes(32))).digest()

    def shared(self, x, y):
        size = CURVES[self.curve][1]
        peer = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"),
                                             CURVES[self.curve][0]).public_key()
        assert len(x) == len(y) == size
        return self.key.exchange(ec.ECDH(), peer)

    def open_jose(self, recipient, kid, nonce=None, empty_context=False):
        """RFC 7518 section 4.6: returns (wrapping key, released key)."""
        header = recipient["header"]
        assert header["alg"] == ALG and header["kid"] == kid and header["epk"]["crv"] == self.curve
        apu, apv = (b"", b"") if empty_context else (kid.encode(), self.party_v(nonce))
        assert unb64u(header.get("apu", "")) == apu and unb64u(header.get("apv", "")) == apv
        z = self.shared(unb64u(header["epk"]["x"]), unb64u(header["epk"]["y"]))

        def field(data):
            return struct.pack(">I", len(data)) + data
        other_info = field(ALG.encode()) + field(apu) + field(apv) + struct.pack(">I", 256)
        kek = hashlib.sha256(struct.pack(">I", 1) + z + other_info).digest()
        return kek, aes_key_unwrap(kek, unb64u(recipient["encrypted_key"]))

    def open_cose(self, message, kid, nonce=None, salt=b"", empty_context=False):
        """RFC 9052 section 5, RFC 9053 sections 5.2 and 6.4: returns (wrapping key, released key)."""
        tagged = cbor2.loads(message)
        assert tagged.tag == 96
        protected, unprotected, ciphertext, recipients = tagged.value
        assert protected == b"" and unprotected == {} and ciphertext is None and len(recipients) == 1
        protected, unprotected, wrapped = recipients[0]
        assert cbor2.loads(protected) == {1: -31, 4: kid.encode()}
        u, v = (None, None) if empty_context else (kid.encode(), self.party_v(nonce))
        assert unprotected.get(-21) == u and unprotected.get(-25) == v and unprotected.get(-20, b"") == salt
        epk = unprotected[-1]
        assert epk[1] == 2 and epk[-1] == CURVES[self.curve][2]
        context = cbor2.dumps([-5, [u, None, None], [None, v, None], [256, protected]])
        kek = HKDF(hashes.SHA256(), 32, salt or None, context).derive(self.shared(epk[-2], epk[-3]))
        return kek, aes_key_unwrap(kek, wrapped)


def random_nonce():
    return os.urandom(32)
