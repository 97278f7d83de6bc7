"""The main job: an attested guest gets a key that was wrapped in the token, and only it can open it."""
import os

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from jwcrypto import jwe, jwk

from kbsguest import Guest, b64u, kcv, random_nonce
from service import BIN, TOKENS, run

LOCALITY = {"nss": "token", "softhsm": "transport"}
RUNG = {("nss", "jose"): "JOSE-chain", ("nss", "cose"): "COSE-HKDF",
        ("softhsm", "jose"): "transport", ("softhsm", "cose"): "transport"}


@pytest.fixture(params=TOKENS)
def token(request):
    """Both, with sanitizers too: what is released depends on the token."""
    return request.param


def test_every_curve_and_format_opens_to_the_same_key(service):
    made = service.generate("default/disk/vm1")
    for curve in ("P-256", "P-384", "P-521"):
        guest = Guest(service.guest_url, service.ca, curve).handshake()
        nonce = random_nonce()
        answer = guest.get_key("default/disk/vm1", nonce=nonce)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/jose+json"
        assert kcv(guest.open_jose(answer.json(), "default/disk/vm1/v1", nonce)[1]) == made["kcv"]

        salt = os.urandom(64)
        answer = guest.get_key("default/disk/vm1", "application/cose", nonce, salt)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == 'application/cose; cose-type="cose-encrypt"'
        assert kcv(guest.open_cose(answer.body, "default/disk/vm1/v1", nonce, salt)[1]) == made["kcv"]

        answer = guest.get_key("default/disk/vm1", query="?context=none")
        assert kcv(guest.open_jose(answer.json(), "default/disk/vm1/v1", None, True)[1]) == made["kcv"]
        answer = guest.get_key("default/disk/vm1", "application/cose", query="?context=none&version=1")
        assert kcv(guest.open_cose(answer.body, "default/disk/vm1/v1", None, b"", True)[1]) == made["kcv"]
        guest.close()
    deeds = [deed for deed in service.records("deed") if deed["op"] == "release"]
    assert len(deeds) == len(service.records("release")) == 12
    for record in deeds:
        assert record["outcome"] == "done"
        assert record["wrap_locality"] == LOCALITY[service.token]
        assert record["rung"] == RUNG[service.token, record["format"]]
        assert record["token_class"] == "software"


def test_no_two_answers_are_alike(service):
    service.generate("default/disk/vm1")
    guest = Guest(service.guest_url, service.ca).handshake()
    answers = [guest.get_key("default/disk/vm1").json() for _ in range(20)]
    assert len({a["header"]["epk"]["x"] for a in answers}) == 20
    assert len({a["encrypted_key"] for a in answers}) == 20


def test_kbs_guest_and_kbs_admin_print_the_same_check_value(service, tmp_path):
    shown = service.generate("default/disk/vm1")["kcv"]
    assert service.admin_json("key", "show", "default/disk/vm1")["kcv"] == shown
    for options in ([], ["--cose"], ["--curve", "P-384"], ["--curve", "P-521", "--cose"], ["--context-none"]):
        out = service.guest("get-key", "default/disk/vm1", *options).stdout
        assert shown in out, out


@pytest.mark.parametrize("size", [16, 24, 32])
def test_an_imported_key_is_the_key_that_comes_out(service, tmp_path, size):
    key = os.urandom(size)
    shown = service.import_key("default/imported/k", key)
    if service.token == "softhsm" and size < 32:  # SoftHSM takes no HMAC key under 32 bytes
        mac = CMAC(AES(key))
        mac.update(b"kbs-kcv")
        assert (shown["kcv_mac"], shown["kcv"]) == ("AES-CMAC", mac.finalize()[:4].hex())
    else:
        assert (shown["kcv_mac"], shown["kcv"]) == ("HMAC-SHA-256", kcv(key))
    assert shown["provenance"] == "imported" and shown["bytes"] == size
    out = tmp_path / "out.key"
    service.guest("get-key", "default/imported/k", "--out", out)
    assert out.read_bytes() == key
    assert out.stat().st_mode & 0o777 == 0o600


def test_the_recipient_opens_in_a_general_jwe_with_another_library(service, tmp_path):
    """python3-jwcrypto decrypts content that was encrypted under the released key as its CEK."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = os.urandom(32)
    service.import_key("default/content/cek", key)
    for curve in ("P-256", "P-384", "P-521"):
        guest = Guest(service.guest_url, service.ca, curve).handshake()
        recipient = guest.get_key("default/content/cek", nonce=random_nonce()).json()
        protected = b64u(b'{"enc":"A256GCM"}')
        iv = os.urandom(12)
        sealed = AESGCM(key).encrypt(iv, b"vTPM state", protected.encode())
        message = {"protected": protected, "recipients": [recipient], "iv": b64u(iv),
                   "ciphertext": b64u(sealed[:-16]), "tag": b64u(sealed[-16:])}
        opened = jwe.JWE()
        import json
        opened.deserialize(json.dumps(message), key=jwk.JWK.from_pem(guest.pem()))
        assert opened.payload == b"vTPM state"


def test_a_floor_is_kept(make_service):
    soft = make_service("softhsm").start()
    soft.generate("default/strict/k", "--floor", "token")
    guest = Guest(soft.guest_url, soft.ca).handshake()
    answer = guest.get_key("default/strict/k")
    assert answer.status == 501
    assert "token" in answer.json()["detail"]
    assert soft.records("release-failed")
    nss = make_service("nss").start()
    nss.generate("default/strict/k", "--floor", "token")
    assert Guest(nss.guest_url, nss.ca).handshake().get_key("default/strict/k").status == 200


def test_a_key_without_policy_is_released_to_nobody(soft):
    soft.generate("default/nobody/k", policy=False)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    answer = guest.get_key("default/nobody/k")
    assert answer.status == 403
    assert answer.json()["type"].endswith("/PolicyDeny")
    assert soft.records("release-denied")[-1]["kid"] == "default/nobody/k/v1"
    assert not soft.records("release")


def test_the_bearer_token_is_its_session(soft):
    soft.generate("default/disk/vm1")
    guest = Guest(soft.guest_url, soft.ca).handshake()
    bearer = {"Authorization": "Bearer " + guest.token}
    answer = guest.get_key("default/disk/vm1", headers=bearer)
    assert answer.status == 200
    guest.open_jose(answer.json(), "default/disk/vm1/v1")
    other = Guest(soft.guest_url, soft.ca).handshake()
    both = {**bearer, **other.cookies()}
    assert other.get_key("default/disk/vm1", headers=both).status == 401
    both = {**bearer, **guest.cookies()}
    assert guest.get_key("default/disk/vm1", headers=both).status == 200


def test_our_token_verifies_with_the_published_keys(soft):
    import json

    from jwcrypto import jws

    guest = Guest(soft.guest_url, soft.ca).handshake()
    keys = guest.http.request("GET", "/.well-known/jwks.json").json()
    token = jws.JWS()
    token.deserialize(guest.token)
    token.verify(jwk.JWK(**keys["keys"][0]))
    claims = json.loads(token.payload)
    assert claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"]["x"] == \
        guest.jwk()["x"]
    assert claims["submods"]["cpu0"]["ear.status"] == "contraindicated"


def test_versions_of_the_programs_agree():
    for program in ("kbsd", "kbs-admin", "kbs-guest"):
        assert run(BIN / program, "--version").stdout.strip()
