"""Tokens of attestation services, signed with keys of the tests: what each service would say of evidence, written from its
documentation, and what it would say if it lied. Shares no code with the product."""
import base64
import hashlib
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
ISSUER = "CoCo-Attestation-Service"
ITA_ISSUER = "https://portal.trustauthority.intel.com"


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jcs(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class EsKey:
    """ES256."""
    algorithm = "ES256"

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": b64u(numbers.x.to_bytes(32, "big")),
                "y": b64u(numbers.y.to_bytes(32, "big"))}

    def sign(self, data):
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class PsKey:
    """PS384, as Intel Trust Authority signs."""
    algorithm = "PS384"

    def __init__(self):
        self.key = rsa.generate_private_key(65537, 2048)

    def jwks(self, kid):
        numbers = self.key.public_key().public_numbers()
        return {"keys": [{"kty": "RSA", "kid": kid, "alg": "PS384", "use": "sig", "e": "AQAB",
                          "n": b64u(numbers.n.to_bytes(256, "big"))}]}

    def sign(self, data):
        return self.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA384()), 48), hashes.SHA384())


def jws(key, claims, **header):
    head = {"typ": "JWT", "alg": key.algorithm, **header}
    text = b64u(json.dumps(head).encode()) + "." + b64u(json.dumps(claims).encode())
    return text + "." + b64u(key.sign(text.encode()))


def report_data_text(tee, digest):
    """As CoCo's verifiers write it: the sample's own base64, else the field in hex."""
    return base64.b64encode(digest).decode() if tee.startswith("sample") else digest.ljust(64, b"\0").hex()


def submod(tee, claims, runtime_data, digest, status="affirming"):
    return {"ear.status": status, "ear.appraisal-policy-id": "default",
            "ear.trustworthiness-vector": {"configuration": 2, "executables": 3, "hardware": 2},
            "ear.veraison.annotated-evidence": {tee: claims, "report_data": report_data_text(tee, digest),
                                                "runtime_data_claims": runtime_data}}


def ear(submods, now=None, **more):
    now = int(now if now is not None else time.time())
    return {"eat_profile": PROFILE, "iss": ISSUER, "iat": now, "exp": now + 300,
            "ear.verifier-id": {"developer": "https://confidentialcontainers.org", "build": "attestation-service 0.1.0"},
            "submods": submods, **more}


def ita(runtime_data, report_data, now=None, **more):
    """Version 2, TDX."""
    now = int(now if now is not None else time.time())
    return {"iss": ITA_ISSUER, "iat": now, "nbf": now, "exp": now + 300, "jti": "j", "ver": "2.0.0",
            "tdx": {"attester_type": "TDX", "tdx_is_debuggable": False, "attester_tcb_status": "UpToDate",
                    "tdx_report_data": report_data.hex(), "tdx_mrtd": "00" * 48, "attester_runtime_data": runtime_data,
                    "policy_ids_matched": [], **more}}


def digest_of(runtime_data, algorithm):
    return hashlib.new(algorithm, jcs(runtime_data)).digest()
