"""An independent administrator: the admin API's requests, signed with python3-cryptography (docs/protocol/admin-api.md).
One connection and no process per request, so that a test can make thousands of keys."""
import hashlib
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from kbsguest import Http, b64u, jcs


class Admin:
    def __init__(self, service):
        self.http = Http(service.admin_url, service.ca)
        pem = (service.folder / "admin" / "admin.key.pem").read_bytes()
        self.key = serialization.load_pem_private_key(pem, None)
        numbers = self.key.public_key().public_numbers()
        jwk = {"crv": "P-256", "kty": "EC", "x": b64u(numbers.x.to_bytes(32, "big")),
               "y": b64u(numbers.y.to_bytes(32, "big"))}
        self.thumbprint = b64u(hashlib.sha256(jcs(jwk)).digest())

    def close(self):
        self.http.close()

    def sign(self, method, target, body):
        """Kbs-Signature of that request, with a fresh nonce and the next sequence."""
        nonce = self.http.request("GET", "/kbs/v0/admin/nonce").json()["nonce"]
        payload = {"m": method, "p": target, "b": b64u(hashlib.sha256(body).digest()), "n": nonce,
                   "s": time.time_ns() // 1000, "exp": int(time.time()) + 60}
        header = {"alg": "ES256", "kid": self.thumbprint, "typ": "kbs-admin"}
        text = b64u(json.dumps(header).encode()) + "." + b64u(json.dumps(payload).encode())
        r, s = utils.decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return text + "." + b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))

    def request(self, method, target, value=None, raw=b"", content_type="application/json"):
        """`value` as JSON, or `raw` as it is."""
        body = json.dumps(value).encode() if value is not None else raw
        headers = {"Kbs-Signature": self.sign(method, target, body)}
        if body:
            headers["Content-Type"] = content_type
        return self.http.request(method, target, body or None, headers)
