"""COCONUT-SVSM and its proxy on the host, as far as a KBS sees them.

The SVSM has no network: it hands its messages to aproxy, which asks the KBS over plain HTTP, takes HTTP 200 and nothing else, and
asks for one fixed path. Two generations of it:

- Legacy: SVSM gives evidence and key, the proxy builds the messages of the protocol from them. The report data of an SNP report is
  SHA-512 over both coordinates and the nonce, and the evidence has names of its own.
- Forwarded: SVSM builds the protocol's messages itself, with its report data, and the proxy only forwards (open upstream).

SVSM's side of the secret: a fresh P-521 key, Concat KDF with empty apu and apv, AES-KW, A256GCM; `enc` is never looked at, and the
AAD is the protected header as the proxy printed it again.
"""
import base64
import hashlib
import json

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from teekey import (CURVES, COORDINATE_BYTES, ECDH_ES_A256KW, EcKey, Refused, compact, concat_kdf, digest,
                    header_as_clients_print_it, jcs, unb64u)
from transport import HttpClient

RESOURCE = "/kbs/v0/resource/default/sample/test"  # the same for every VM
CURVE = "P-521"


class ProxyFailed(Exception):
    """The proxy gives up; with a malformed /auth body its process ends."""


class Proxy:
    """The proxy's half. Its client has no TLS."""

    def __init__(self, url):
        if not url.startswith("http://"):
            raise ProxyFailed("aproxy speaks plain HTTP only")
        self.http = HttpClient(url, user_agent="")

    def close(self):
        self.http.close()

    def post(self, name, message):
        return self.http.request("POST", "/kbs/v0/" + name, compact(message).encode(), {"content-type": "application/json"})

    def negotiate(self, tee):
        answer = self.post("auth", {"version": "0.4.0", "tee": tee, "extra-params": ""})
        if answer.status != 200:
            raise ProxyFailed(f"auth: {answer.status} {answer.body!r}")
        challenge = json.loads(answer.body)
        if "extra-params" not in challenge:
            raise ProxyFailed("a challenge without extra-params")
        return challenge["nonce"]

    def attest(self, message):
        """The token, or None, which tells SVSM that it failed."""
        answer = self.post("attest", message)
        return json.loads(answer.body)["token"] if answer.status == 200 else None

    def secret(self):
        """What SVSM is handed: the JWE taken apart, its AAD from a header that was printed again."""
        answer = self.http.request("GET", RESOURCE)
        if answer.status != 200:
            return None
        jwe = json.loads(answer.body)
        header, aad = header_as_clients_print_it(jwe["protected"])
        if header["alg"] != ECDH_ES_A256KW:
            raise ProxyFailed(f"alg is {header['alg']}")
        return {"secret": unb64u(jwe["ciphertext"]),
                "decryption": {"epk": {name: header["epk"][name] for name in ("crv", "kty", "x", "y")},
                               "wrapped_cek": unb64u(jwe["encrypted_key"]), "aad": aad, "iv": unb64u(jwe["iv"]),
                               "tag": unb64u(jwe["tag"])}}


class Svsm:
    """The half inside the VM, and what both generations of it share."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.key = EcKey(CURVE)

    def open(self, answer):
        epk, parts = answer["decryption"]["epk"], answer["decryption"]
        x, y = unb64u(epk["x"]), unb64u(epk["y"])
        if epk["crv"] != CURVE or {len(x), len(y)} != {COORDINATE_BYTES[CURVE]}:
            raise Refused("epk is not on P-521")
        peer = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), CURVES[CURVE]).public_key()
        kek = concat_kdf(self.key.private.exchange(ec.ECDH(), peer), ECDH_ES_A256KW)
        try:
            return AESGCM(aes_key_unwrap(kek, parts["wrapped_cek"])).decrypt(
                parts["iv"], answer["secret"] + parts["tag"], parts["aad"])
        except InvalidTag:
            raise Refused("the secret does not open") from None


def unsigned_report(report_data):
    """Report data and nothing else: there is no hardware in a test."""
    report = bytearray(1184)
    report[0x50:0x90] = report_data
    return {"snp-report": base64.b64encode(report).decode(), "certs-buf": None}


class LegacySvsm(Svsm):
    """Messages as the proxy of today builds them around an SNP report, which `report` gives for its report data."""
    tee = "snp"

    def __init__(self, proxy, report=unsigned_report):
        super().__init__(proxy)
        self.report = report

    def report_data(self, nonce):
        point = self.key.private.public_key().public_numbers()
        size = COORDINATE_BYTES[self.key.curve]
        return hashlib.sha512(point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big") +
                              base64.b64decode(nonce, validate=True)).digest()

    def message(self, nonce):
        return {"init-data": None, "runtime-data": {"nonce": nonce, "tee-pubkey": self.key.jwk()},
                "tee-evidence": {"primary_evidence": self.report(self.report_data(nonce)), "additional_evidence": ""}}

    def attest(self):
        return self.proxy.attest(self.message(self.proxy.negotiate(self.tee)))


class ForwardedSvsm(Svsm):
    """Messages that SVSM makes itself. The evidence is a sample: there is no hardware in a test."""
    tee = "sample"

    def attest(self):
        nonce = self.proxy.negotiate(self.tee)
        runtime = {"nonce": nonce, "tee-pubkey": self.key.jwk()}
        report_data = digest("sha384", jcs(runtime | {"additional-evidence": ""}))
        evidence = {"svn": "1", "report_data": base64.b64encode(report_data).decode()}
        return self.proxy.attest({"init-data": None, "runtime-data": runtime,
                                  "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}})

