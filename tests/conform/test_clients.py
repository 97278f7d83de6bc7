"""The clients themselves: that they refuse what the real ones refuse. A conformance row is worth what its client would notice."""
import base64
import hashlib
import json
import os
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from guest import Attester, error_information, resource_target
from teekey import CURVES, EcKey, Refused, b64u, compact, concat_kdf, open_response, unb64u
from transport import Answer, CookieStore

SECRET = b"shhhhhhh"


def with_party(z, alg, apu):
    """RFC 7518 section 4.6.2, with an apu."""
    other = struct.pack(">I", len(alg)) + alg.encode() + struct.pack(">I", len(apu)) + apu + struct.pack(">II", 0, 256)
    return hashlib.sha256(struct.pack(">I", 1) + z + other).digest()


def answer_to(key, header=None, spaces=False, party=b"", **members):
    """A response as a service makes it. `header` is given the good one, and may return another."""
    ephemeral = EcKey(key.curve)
    epk = ephemeral.jwk()
    good = {"alg": key.alg, "enc": "A256GCM", "epk": {name: epk[name] for name in ("crv", "kty", "x", "y")}}
    printed = json.dumps(header(good) if header else good, separators=None if spaces else (",", ":"))
    protected = b64u(printed.encode())
    z = ephemeral.private.exchange(ec.ECDH(), key.private.public_key())
    cek, iv = os.urandom(32), os.urandom(12)
    kek = concat_kdf(z, key.alg) if not party else with_party(z, key.alg, party)
    sealed = AESGCM(cek).encrypt(iv, SECRET, protected.encode())
    return {"protected": protected, "encrypted_key": b64u(aes_key_wrap(kek, cek)), "iv": b64u(iv), "ciphertext": b64u(sealed[:-16]),
            "tag": b64u(sealed[-16:])} | members


@pytest.mark.parametrize("curve", CURVES)
def test_a_good_answer_opens(curve):
    key = EcKey(curve)
    assert open_response(key, compact(answer_to(key))) == SECRET
    assert open_response(key, compact(answer_to(key, aad="ignored", more=1))) == SECRET  # unknown members are


REORDERED = {
    "enc before alg": lambda h: {"enc": h["enc"], "alg": h["alg"], "epk": h["epk"]},
    "epk first": lambda h: {"epk": h["epk"], "alg": h["alg"], "enc": h["enc"]},
    "epk not sorted": lambda h: h | {"epk": {name: h["epk"][name] for name in ("kty", "crv", "x", "y")}},
    "kid before epk": lambda h: {"alg": h["alg"], "enc": h["enc"], "kid": "x", "epk": h["epk"]},
}


@pytest.mark.parametrize("change", REORDERED.values(), ids=REORDERED)
def test_a_header_that_is_printed_otherwise_is_refused(change):
    key = EcKey()
    with pytest.raises(Refused, match="header as clients print it"):
        open_response(key, compact(answer_to(key, header=change)))
    sorted_rest = answer_to(key, header=lambda h: h | {"kid": "x"})
    assert open_response(key, compact(sorted_rest)) == SECRET


def test_spaces_in_the_header_are_refused():
    key = EcKey()
    with pytest.raises(Refused, match="header as clients print it"):
        open_response(key, compact(answer_to(key, spaces=True)))


def test_party_info_is_refused():
    key = EcKey()
    with pytest.raises(Refused, match="does not open"):
        open_response(key, compact(answer_to(key, party=b"apu")))


def test_members_are_strings_without_padding():
    key = EcKey()
    good = answer_to(key)
    for name, value in good.items():
        for bad in (value + "=" * (-len(value) % 4 or 4), None, 1, "*"):
            with pytest.raises(Refused):
                open_response(key, compact(good | {name: bad}))
        with pytest.raises(Refused):
            open_response(key, compact({k: v for k, v in good.items() if k != name}))


def test_another_key_or_curve_is_refused():
    answer = compact(answer_to(EcKey("P-256")))
    for key in (EcKey("P-256"), EcKey("P-521")):
        with pytest.raises(Refused):
            open_response(key, answer)


@pytest.mark.parametrize("text", ["AA==", "AA+/", "A", "AB", "A A="])
def test_base64url_is_strict(text):
    with pytest.raises(Refused):
        unb64u(text)


def test_an_error_has_type_and_detail():
    assert error_information(Answer(401, [], b'{"type":"a/b","detail":"c"}')) == {"type": "a/b", "detail": "c"}
    for body in (b"", b"payload reached size limit", b"{}", b'{"type":"x"}', b'{"type":"x","detail":null}', b"[]"):
        with pytest.raises(Refused):
            error_information(Answer(401, [], body))


def test_cookies_follow_path_expiry_and_secure():
    for path, sent_to, kept_from in (
            ("", ["/kbs/v0/auth", "/kbs/v0/attest", "/kbs/v0/resource/a/b/c", "/kbs/v0"], ["/kbs/v1", "/", "/kbs/v01"]),
            ("; Path=/", ["/", "/metrics", "/kbs/v0/attest"], []),
            ("; Path=/kbs/v0/auth", ["/kbs/v0/auth"], ["/kbs/v0/attest", "/kbs/v0/authx"])):
        store = CookieStore("127.0.0.1")
        store.keep("a=b" + path, "/kbs/v0/auth")
        assert all(store.header(target, False) == "a=b" for target in sent_to), path
        assert not any(store.header(target, False) for target in kept_from), path
    store.keep("gone=1; Path=/; Expires=Thu, 01 Jan 1970 00:00:10 GMT", "/")
    store.keep("other=1; Path=/; Domain=example.org", "/")
    store.keep("tls=1; Path=/; Secure", "/")
    assert store.header("/", False) is None and store.header("/", True) == "tls=1"
    store.keep("tls=2; Path=/; Secure; Max-Age=0", "/")
    assert store.header("/", True) is None


def test_a_challenge_selects_a_hash_that_is_known():
    selected = Attester.selected_hash
    assert selected({"extra-params": ""}) == selected({"extra-params": {}}) == "sha384"
    assert selected({"extra-params": {"selected-hash-algorithm": "SHA512"}}) == "sha512"
    for wrong in (1, None, "md5", ""):
        with pytest.raises(Refused):
            selected({"extra-params": {"selected-hash-algorithm": wrong}})


def test_resources_have_uris():
    assert resource_target("kbs:///a/b/c") == resource_target("a/b/c") == "/kbs/v0/resource/a/b/c"
    assert resource_target("kbs+pkcs11:///resource/a/b/c?v=1") == "/kbs/v0/pkcs11/resource/a/b/c?v=1"
    for wrong in ("http:///a/b/c", "kbs://host/a/b/c"):
        with pytest.raises(ValueError):
            resource_target(wrong)


def test_sample_evidence_is_in_padded_base64():
    guest = Attester("http://127.0.0.1:1")
    message = guest.attestation({"nonce": "AAAA", "extra-params": ""})
    data = message["tee-evidence"]["primary_evidence"]["report_data"]
    assert len(base64.b64decode(data, validate=True)) == 48
