"""The cryptography of a KBS client, from RFC 7515 to 7518 and RFC 8785, with the rules of guest-components where they are
stricter or other than the standards:

- base64url has no padding, and padding is refused
- the protected header of a response is parsed and printed again (alg, enc, the others sorted) and that is the AAD, not the
  text that was received
- apu and apv count as empty, whatever the header says; the `aad` member is never looked at
"""
import base64
import hashlib
import json
import re
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

ECDH_ES_A256KW = "ECDH-ES+A256KW"
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
COORDINATE_BYTES = {"P-256": 32, "P-384": 48, "P-521": 66}
MEMBERS = ("protected", "encrypted_key", "iv", "ciphertext", "tag")


class Refused(Exception):
    """The client does not take what the service answered."""


def b64u(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64u(text):
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Refused(f"not base64url without padding: {text[:40]!r}")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64u(data) != text:
        raise Refused("base64url with bits behind its end")
    return data


def compact(value):
    """JSON as serde prints it: no spaces, nothing escaped that need not be, members in the order they have."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def jcs(value):
    """RFC 8785, for what the protocol hashes: no numbers but integers, names of ASCII."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def digest(name, data):
    return hashlib.new(name, data).digest()


def concat_kdf(z, alg):
    """RFC 7518 section 4.6.2: one round for 256 bits, no party info."""
    other = struct.pack(">I", len(alg)) + alg.encode() + struct.pack(">III", 0, 0, 256)
    return hashlib.sha256(struct.pack(">I", 1) + z + other).digest()


class EcKey:
    alg = ECDH_ES_A256KW

    def __init__(self, curve="P-256", private=None):
        self.curve = curve
        self.private = private or ec.generate_private_key(CURVES[curve])

    def jwk(self):
        point = self.private.public_key().public_numbers()
        size = COORDINATE_BYTES[self.curve]
        return {"kty": "EC", "crv": self.curve, "alg": self.alg, "x": b64u(point.x.to_bytes(size, "big")),
                "y": b64u(point.y.to_bytes(size, "big"))}

    def unwrap(self, header, encrypted_key):
        if header["alg"] != self.alg:
            raise Refused(f"alg is {header['alg']}")
        epk = header.get("epk") or {}
        if epk.get("crv") != self.curve or epk.get("kty") != "EC":
            raise Refused(f"epk is not on {self.curve}")
        x, y = (unb64u(epk[name]) for name in ("x", "y"))
        if {len(x), len(y)} != {COORDINATE_BYTES[self.curve]}:
            raise Refused("a coordinate of the wrong length")
        peer = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"),
                                             CURVES[self.curve]).public_key()
        kek = concat_kdf(self.private.exchange(ec.ECDH(), peer), self.alg)
        try:
            return aes_key_unwrap(kek, encrypted_key)
        except InvalidUnwrap:
            raise Refused("the wrapped key does not open") from None


class RsaKey:
    PADDINGS = {
        "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
        "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
        "RSA1_5": padding.PKCS1v15(),
    }

    def __init__(self, alg="RSA-OAEP-256", bits=2048, private=None):
        self.alg = alg
        self.private = private or rsa.generate_private_key(65537, bits)

    def jwk(self):
        numbers = self.private.public_key().public_numbers()
        return {"kty": "RSA", "alg": self.alg, "n": b64u(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
                "e": b64u(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big"))}

    def unwrap(self, header, encrypted_key):
        if header["alg"] != self.alg:
            raise Refused(f"alg is {header['alg']}")
        try:
            return self.private.decrypt(encrypted_key, self.PADDINGS[self.alg])
        except ValueError:
            raise Refused("the encrypted key does not open") from None


def load_key(pem):
    """--tee-key-file: RSA (PKCS#1), or EC on P-256 or P-521 (PKCS#8)."""
    private = serialization.load_pem_private_key(pem, None)
    if isinstance(private, rsa.RSAPrivateKey):
        return RsaKey(private=private)
    names = {curve.name: name for name, curve in CURVES.items()}
    return EcKey(names[private.curve.name], private)


def header_as_clients_print_it(protected):
    """(header, AAD): the text is parsed into alg, enc and the rest, which a map sorts, at every level, when it is printed."""
    try:
        header = json.loads(unb64u(protected))
        rest = {name: value for name, value in header.items() if name not in ("alg", "enc")}
        printed = compact({"alg": header["alg"], "enc": header["enc"]})
    except (ValueError, KeyError, AttributeError):
        raise Refused("the protected header is not one") from None
    if rest:
        printed = printed[:-1] + "," + jcs(rest).decode()[1:]
    return header, b64u(printed.encode()).encode()


def open_response(key, text):
    """A resource's flattened JWE (RFC 7516 section 7.2.2) to the value."""
    try:
        response = json.loads(text)
        parts = {name: response[name] for name in MEMBERS}
    except (ValueError, KeyError, TypeError):
        raise Refused("not a flattened JWE") from None
    if not all(isinstance(part, str) for part in parts.values()):
        raise Refused("a member of the JWE is not a string")
    header, aad = header_as_clients_print_it(parts["protected"])
    if header["enc"] != "A256GCM":
        raise Refused(f"enc is {header['enc']}")
    cek = key.unwrap(header, unb64u(parts["encrypted_key"]))
    iv, tag = unb64u(parts["iv"]), unb64u(parts["tag"])
    if (len(cek), len(iv), len(tag)) != (32, 12, 16):
        raise Refused("content key, iv or tag of the wrong length")
    try:
        return AESGCM(cek).decrypt(iv, unb64u(parts["ciphertext"]) + tag, aad)
    except InvalidTag:
        raise Refused("the content does not open under the header as clients print it") from None
