"""Sealed secrets, end to end: sealed by the client, opened by a guest the way stock clients open resources."""
import base64
import hashlib
import json
import os
import sqlite3
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from kbsadmin import Admin
from kbsguest import ALG, CURVES, Guest, b64u, jcs, unb64u
from service import ALLOW_SAMPLE, BIN, run

PATH = "shop/db/password"


class RsaGuest(Guest):
    """A guest whose TEE key is RSA (docs/protocol/rcar.md)."""

    def __init__(self, url, cafile, alg):
        super().__init__(url, cafile, key=rsa.generate_private_key(65537, 2048))
        self.alg = alg

    def jwk(self):
        n = self.key.public_key().public_numbers()
        return {"kty": "RSA", "alg": self.alg, "n": b64u(n.n.to_bytes(256, "big")), "e": b64u(n.e.to_bytes(3, "big"))}

    def attestation(self, **_):
        self.digest = hashlib.sha384(jcs({"tee-pubkey": self.jwk(), "nonce": self.nonce,
                                          "additional-evidence": ""})).digest()
        evidence = {"svn": "1", "report_data": base64.b64encode(self.digest).decode()}
        return {"init-data": None, "runtime-data": {"nonce": self.nonce, "tee-pubkey": self.jwk()},
                "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}}


def get(guest, path=PATH, headers=None):
    return guest.http.request("GET", "/kbs/v0/resource/" + path,
                              headers=guest.cookies() if headers is None else headers)


def aad_of_stock_clients(protected):
    """They parse the header and print it again: alg, enc, then the other members sorted."""
    header = json.loads(unb64u(protected))
    ordered = {name: header.pop(name) for name in ("alg", "enc")} | dict(sorted(header.items()))
    return b64u(json.dumps(ordered, separators=(",", ":")).encode()).encode()


def concat_kdf(z, apu=b"", apv=b""):
    """RFC 7518 section 4.6.2, for ECDH-ES+A256KW."""
    def field(data):
        return struct.pack(">I", len(data)) + data
    return hashlib.sha256(struct.pack(">I", 1) + z + field(ALG.encode()) + field(apu) + field(apv)
                          + struct.pack(">I", 256)).digest()


def jwe_parts(guest, jwe):
    """(wrapping key, None of RSA; content key; plaintext)"""
    assert list(jwe) == ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
    header = json.loads(unb64u(jwe["protected"]))
    kek = None
    assert header["enc"] == "A256GCM"
    if isinstance(guest, RsaGuest):
        assert header == {"alg": guest.alg, "enc": "A256GCM"}
        digest = hashes.SHA256() if guest.alg == "RSA-OAEP-256" else hashes.SHA1()
        scheme = padding.PKCS1v15() if guest.alg == "RSA1_5" else padding.OAEP(padding.MGF1(digest), digest, None)
        cek = guest.key.decrypt(unb64u(jwe["encrypted_key"]), scheme)
    else:
        epk = header["epk"]
        assert set(header) == {"alg", "enc", "epk"} and header["alg"] == ALG
        assert set(epk) == {"crv", "kty", "x", "y"} and epk["crv"] == guest.curve
        kek = concat_kdf(guest.shared(unb64u(epk["x"]), unb64u(epk["y"])))
        cek = aes_key_unwrap(kek, unb64u(jwe["encrypted_key"]))
    assert len(cek) == 32 and len(unb64u(jwe["iv"])) == 12 and len(unb64u(jwe["tag"])) == 16
    return kek, cek, AESGCM(cek).decrypt(unb64u(jwe["iv"]), unb64u(jwe["ciphertext"]) + unb64u(jwe["tag"]),
                                         aad_of_stock_clients(jwe["protected"]))


def open_jwe(guest, jwe):
    return jwe_parts(guest, jwe)[2]


class SecretAdmin(Admin):
    """Its requests about secrets, and the sealing that its client does."""

    def secret(self, method, value=None, path=PATH):
        return self.request(method, "/kbs/v0/admin/secrets/" + path, value)

    def seal(self, *args, **kwargs):
        return self.sealed(*args, **kwargs)[0]

    def sealed(self, plain, name, apu="kbs-seal-v1", **changes):
        """docs/protocol/sealed-secrets.md, written from the standards. (JWE, wrapping key, content key)"""
        answer = self.request("GET", "/kbs/v0/admin/seal-key").json()
        x, y = (int.from_bytes(unb64u(answer["key"][name]), "big") for name in "xy")
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        own = ephemeral.public_key().public_numbers()
        z = ephemeral.exchange(ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key())
        header = {"alg": ALG, "enc": "A256GCM", "apu": b64u(apu.encode()), "apv": b64u(name.encode()),
                  "epk": {"crv": "P-256", "kty": "EC", "x": b64u(own.x.to_bytes(32, "big")),
                          "y": b64u(own.y.to_bytes(32, "big"))}, "kid": answer["thumbprint"]} | changes
        protected = b64u(json.dumps(header, separators=(",", ":")).encode())
        cek, iv = os.urandom(32), os.urandom(12)
        sealed = AESGCM(cek).encrypt(iv, plain, protected.encode())
        kek = concat_kdf(z, apu.encode(), name.encode())
        return {"protected": protected, "encrypted_key": b64u(aes_key_wrap(kek, cek)), "iv": b64u(iv),
                "ciphertext": b64u(sealed[:-16]), "tag": b64u(sealed[-16:])}, kek, cek


def put(service, value, path=PATH, policy=True):
    file = service.folder / "value"
    file.write_bytes(value)
    extra = ["--policy", service.policy_file()] if policy else []
    try:
        return service.admin_json("secret", "set", path, "--file", file, *extra)
    finally:
        file.unlink()


def test_every_kind_of_guest_gets_what_was_sealed(service):
    values = {size: os.urandom(size) for size in (1, 4096, 131072)}
    for size, value in values.items():
        made = put(service, value, f"shop/size/s{size}")
        assert (made["version"], made["bytes"], made["state"]) == (1, size, "enabled")
    guests = [Guest(service.guest_url, service.ca, curve) for curve in CURVES]
    guests += [RsaGuest(service.guest_url, service.ca, alg) for alg in ("RSA-OAEP-256", "RSA-OAEP")]
    for guest in guests:
        guest.handshake()
        for size, value in values.items():
            answer = get(guest, f"shop/size/s{size}")
            assert answer.status == 200, answer.body
            assert answer.headers["content-type"] == "application/json" and "set-cookie" not in answer.headers
            assert open_jwe(guest, answer.json()) == value
            bearer = get(guest, f"shop/size/s{size}", {"Authorization": "Bearer " + guest.token})
            assert open_jwe(guest, bearer.json()) == value and bearer.body != answer.body
        guest.close()
    orders = [r["class"] for r in service.records("release")]
    deeds = [(r["format"], r["wrap_locality"]) for r in service.records("deed") if r["op"] == "open-secret"]
    assert len(orders) == len(deeds) == 6 * len(guests)
    assert set(orders) == {"sealed"} and set(deeds) == {("jwe", "worker")}
    run(BIN / "kbs-admin", "audit", "verify", service.ledger_path)


def test_kbs_guest_opens_it(service, tmp_path):
    value = os.urandom(5000)
    put(service, value)
    for options in ([], ["--curve", "P-521"], ["--tee-alg", "RSA-OAEP-256"]):
        out = tmp_path / "out"
        service.guest("get-resource", PATH, "--out", out, *options)
        assert out.read_bytes() == value
        out.unlink()


def test_versions_policy_and_deletion(soft):
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert get(guest).status == 404
    assert get(guest, headers={}).status == 401 and get(guest, "no/such/thing", {}).status == 401
    put(soft, b"one", policy=False)
    denied = get(guest)
    assert denied.status == 403 and denied.json()["type"].endswith("/PolicyDeny")
    assert put(soft, b"two")["version"] == 2
    assert open_jwe(guest, get(guest).json()) == b"two"
    assert put(soft, b"three", policy=False)["policy"] == ALLOW_SAMPLE  # as the version before
    assert open_jwe(guest, get(guest).json()) == b"three"
    assert [s["version"] for s in soft.admin_json("secret", "list")["secrets"]] == [3]
    assert soft.admin_json("secret", "delete", PATH)["state"] == "destroyed"
    assert get(guest).status == 404
    assert soft.admin_json("secret", "list")["secrets"] == []
    assert soft.admin("secret", "delete", PATH, check=False).returncode != 0
    again = put(soft, b"four", policy=False)
    assert (again["version"], again["policy"]) == (4, None)
    assert get(guest).status == 403
    run(BIN / "kbs-admin", "audit", "verify", soft.ledger_path)


def test_only_the_newest_versions_are_kept(soft):
    marker = os.urandom(24)
    for i in range(18):
        put(soft, marker + bytes([i]))
    with sqlite3.connect(f"file:{soft.store_path}?mode=ro", uri=True) as db:
        kept = [v for v, in db.execute("SELECT version FROM secret WHERE sealed IS NOT NULL ORDER BY version")]
        assert kept == list(range(3, 19))
        assert db.execute("SELECT count(*) FROM secret").fetchone() == (18,)
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert open_jwe(guest, get(guest).json()) == marker + bytes([17])
    assert marker not in soft.store_path.read_bytes()
    soft.stop()
    soft.start()  # and the store is still the ledger's
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert open_jwe(guest, get(guest).json()) == marker + bytes([17])


def test_a_key_in_the_form_of_a_resource(service):
    service.generate("shop/key/soft", "--floor", "worker")
    service.generate("shop/key/hard", "--floor", "transport")
    guest = Guest(service.guest_url, service.ca).handshake()
    answer = get(guest, "shop/key/soft")
    assert answer.status == 200 and len(open_jwe(guest, answer.json())) == 32
    assert get(guest, "shop/key/hard").status == 501  # neither token here wraps by GCM
    assert service.admin("secret", "set", "shop/key/soft", check=False, input="x").returncode != 0
    put(service, b"x")
    assert service.admin("key", "generate", PATH, check=False).returncode != 0


def test_what_a_client_may_send(soft):
    admin = SecretAdmin(soft)
    kid = PATH + "/v1"
    good = admin.seal(b"value", kid)
    for name in good:  # every part, one bit
        data = bytearray(unb64u(good[name]))
        data[-1 if name != "protected" else 20] ^= 1
        answer = admin.secret("POST", {"jwe": good | {name: b64u(data)}})
        assert answer.status in (400, 422), (name, answer.body)
    refused = [
        (422, {"jwe": admin.seal(b"value", PATH + "x/v1")}),
        (409, {"jwe": admin.seal(b"value", PATH + "/v2")}),
        (422, {"jwe": admin.seal(b"value", kid, kid="0" * 43)}),
        (400, {"jwe": admin.seal(b"value", kid, apu="kbs-import-v1")}),
        (400, {"jwe": admin.seal(b"value", kid, zip="DEF")}),
        (400, {"jwe": good | {"aad": "AA"}}),
        (400, {"jwe": good, "plaintext": "AA"}),
        (400, {"policy": None}),
        (400, {"plaintext": b64u(bytes(131073))}),
    ]
    for status, body in refused:
        answer = admin.secret("POST", body)
        assert answer.status == status, (status, answer.body)
    assert admin.secret("GET").status == 404
    assert admin.secret("POST", {"jwe": good, "policy": ALLOW_SAMPLE}).status == 200
    assert admin.secret("POST", {"jwe": good}).status == 409  # the same once more
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert open_jwe(guest, get(guest).json()) == b"value"


def test_plaintext_is_recorded_as_such(soft):
    admin = SecretAdmin(soft)
    value = os.urandom(131072)
    answer = admin.secret("POST", {"plaintext": b64u(value), "policy": ALLOW_SAMPLE})
    assert answer.status == 200, answer.body
    guest = Guest(soft.guest_url, soft.ca).handshake()
    assert open_jwe(guest, get(guest).json()) == value
    assert [r["form"] for r in soft.records("secret-set") if r["phase"] == "intent"] == ["plaintext"]
    assert value[:64] not in soft.store_path.read_bytes()


def test_a_seal_key_that_is_not_pinned_gets_nothing(soft, tmp_path):
    profile = soft.folder / "admin" / "profile.json"
    text = json.loads(profile.read_text())
    profile.write_text(json.dumps(text | {"seal_key": "0" * 43}))
    refused = soft.admin("secret", "set", PATH, check=False, input="value")
    assert refused.returncode != 0 and "not the" in refused.stderr and soft.records("secret-set") == []


def test_the_seal_key_is_rotated(service):
    """Every version of every secret moves, is what it was, and needs the old seal key no more."""
    values = {f"shop/db/s{i}": os.urandom(size) for i, size in enumerate((1, 700, 131072))}
    for path, value in values.items():
        put(service, b"an older value", path)
        put(service, value, path)
    guest = Guest(service.guest_url, service.ca).handshake()
    assert service.admin_json("seal-key", "show")["secrets"] == {"1": 6}
    new = service.admin_json("seal-key", "rotate")
    assert new["version"] == 2
    refused = service.admin("secret", "set", PATH, check=False, input="value")
    assert refused.returncode != 0 and new["thumbprint"] in refused.stderr
    service.admin("secret", "set", PATH, "--seal-key", new["thumbprint"], "--policy", service.policy_file(), input="value")
    assert service.admin("seal-key", "destroy", "--version", 1, check=False).returncode == 6
    assert service.admin_json("seal-key", "reseal", "--limit", 4) == {"resealed": 6, "left": 0, "version": 2, "failed": []}
    service.admin("seal-key", "destroy", "--version", 1)
    assert service.admin_json("seal-key", "show")["secrets"] == {"2": 7}
    for path, value in {**values, PATH: b"value"}.items():
        answer = get(guest, path)
        assert answer.status == 200 and open_jwe(guest, answer.json()) == value, path
    guest.close()
    service.ledger()
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               service.ledger_path)
    assert json.loads(done.stdout)["findings"] == []


def test_a_secret_whose_seal_key_is_gone(soft):
    """As after a backup of the store was put back that is older than the end of its seal key."""
    put(soft, b"value")
    backup = sqlite3.connect(soft.store_path)
    card, sealed, signature, epoch, request = backup.execute(
        "SELECT card, sealed, signature, epoch, request FROM secret").fetchone()
    backup.close()
    assert soft.admin_json("seal-key", "rotate")["version"] == 2
    soft.admin("seal-key", "reseal")
    soft.admin("seal-key", "destroy", "--version", 1)
    restored = sqlite3.connect(soft.store_path)
    restored.execute("UPDATE secret SET card = ?, sealed = ?, signature = ?, epoch = ?, request = ?",
                     (card, sealed, signature, epoch, request))
    restored.commit()
    restored.close()
    answer = get(Guest(soft.guest_url, soft.ca).handshake())
    assert answer.status == 501 and "seal key 1" in answer.json()["detail"], answer.body
