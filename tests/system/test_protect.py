"""Requests that a host proxy can carry but not use, through a whole service: what it captured gives nothing, what it
changes is refused, and the guest of kbs-guest gets its key. The guest here is written from docs/protocol/requests.md."""
import hashlib
import json
import os

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from kbsguest import ALG, CURVES, Guest, b64u, jcs, kcv, random_nonce, unb64u
from test_nek import SAMPLE, bind, opens_to, recipe

HASHES = {"P-256": hashes.SHA256, "P-384": hashes.SHA384, "P-521": hashes.SHA512}
DEMAND = {claim: {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs." + claim, "equals": True}]}]}
          for claim in ("pop", "encrypted")}


def public(key, curve):
    size = CURVES[curve][1]
    numbers = key.public_key().public_numbers()
    return {"crv": curve, "kty": "EC", "x": b64u(numbers.x.to_bytes(size, "big")), "y": b64u(numbers.y.to_bytes(size, "big"))}


def thumbprint(jwk):
    return b64u(hashlib.sha256(jcs(jwk)).digest())


class Prover(Guest):
    """A guest whose attested key signs. self.key becomes the one-request key, with which answers are opened."""

    def __init__(self, url, cafile=None, curve="P-256"):
        super().__init__(url, cafile, curve)
        self.signer = self.key

    def jwk(self):
        return {**public(self.signer, self.curve), "alg": {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[self.curve]}

    def prove(self, method, target, body=b"", nonce=None, **changes):
        self.key = ec.generate_private_key(CURVES[self.curve][0])
        nonce = nonce or challenge(self)
        payload = {"b": b64u(hashlib.sha256(body).digest()), "k": public(self.key, self.curve), "m": method, "n": nonce,
                   "p": target, **changes}
        header = {"alg": self.jwk()["alg"], "kid": thumbprint(public(self.signer, self.curve)), "typ": "kbs-proof"}
        text = b64u(json.dumps(header).encode()) + "." + b64u(json.dumps(payload).encode())
        r, s = utils.decode_dss_signature(self.signer.sign(text.encode(), ec.ECDSA(HASHES[self.curve]())))
        size = CURVES[self.curve][1]
        return text + "." + b64u(r.to_bytes(size, "big") + s.to_bytes(size, "big"))


def challenge(guest):
    answer = guest.http.request("GET", "/kbs/v0/key/nonce", headers=guest.cookies())
    assert answer.status == 200, answer.body
    return answer.json()["nonce"]


def enveloped(jwk, nonce, method, target, plain):
    """ECDH-ES+A256KW, A256GCM, flattened (RFC 7516, RFC 7518 section 4.6). (body, wrapping key, content key)"""
    fresh = ec.generate_private_key(ec.SECP256R1())
    numbers = ec.EllipticCurvePublicNumbers(*(int.from_bytes(unb64u(jwk[c]), "big") for c in "xy"), ec.SECP256R1())
    z = fresh.exchange(ec.ECDH(), numbers.public_key())
    apu, apv = b"kbs-request-v1", unb64u(nonce) + hashlib.sha256(f"{method} {target}".encode()).digest()
    info = b"".join(len(f).to_bytes(4, "big") + f for f in (ALG.encode(), apu, apv)) + (256).to_bytes(4, "big")
    kek = hashlib.sha256((1).to_bytes(4, "big") + z + info).digest()
    own = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    header = {"alg": ALG, "enc": "A256GCM", "apu": b64u(apu), "apv": b64u(apv), "epk": public(fresh, "P-256"),
              "kid": thumbprint(own)}
    protected = b64u(json.dumps(header, separators=(",", ":")).encode())
    cek, iv = os.urandom(32), os.urandom(12)
    sealed = AESGCM(cek).encrypt(iv, plain, protected.encode())
    return json.dumps({"protected": protected, "encrypted_key": b64u(aes_key_wrap(kek, cek)), "iv": b64u(iv),
                       "ciphertext": b64u(sealed[:-16]), "tag": b64u(sealed[-16:])}).encode(), kek, cek


def envelope(*args):
    return enveloped(*args)[0]


def post(guest, target, body=None, content_type="application/json", accept="application/jose+json", **headers):
    return guest.http.request("POST", target, body, {"Accept": accept, **({"Content-Type": content_type} if body else {}),
                                                     **guest.cookies(), **headers})


def policy_file(folder, claim):
    path = folder / f"{claim}.json"
    path.write_text(json.dumps(DEMAND[claim]))
    return path


def test_a_proof_opens_for_the_fresh_key_and_for_nobody_else(service, tmp_path):
    service.generate("default/disk/vm1")
    kid = "default/disk/vm1/v1"
    shown = service.admin_json("key", "policy", "default/disk/vm1", "--policy", policy_file(tmp_path, "pop"), "--require-pop")
    assert shown["pop_required"] is True
    assert service.admin_json("key", "show", "default/disk/vm1")["verified"] is True
    target, nonce = "/kbs/v0/key/default/disk/vm1", random_nonce()
    body = json.dumps({"nonce": b64u(nonce)}).encode()
    for curve in CURVES:
        guest = Prover(service.guest_url, service.ca, curve).handshake()
        assert post(guest, target, body).status == 401
        for accept in ("application/jose+json", "application/cose"):
            proof = guest.prove("POST", target, body)
            answer = post(guest, target, body, accept=accept, **{"Kbs-Proof": proof})
            assert answer.status == 200, answer.body
            opened = guest.open_jose(answer.json(), kid, nonce) if "jose" in accept else guest.open_cose(answer.body, kid, nonce)
            assert kcv(opened[1]) == shown["kcv"]
            assert post(guest, target, body, **{"Kbs-Proof": proof}).status == 401  # replayed
        guest.close()

    guest, other = (Prover(service.guest_url, service.ca).handshake() for _ in range(2))
    stock = Guest(service.guest_url, service.ca).handshake()
    assert stock.get_key("default/disk/vm1").status == 403
    proof = {"Kbs-Proof": guest.prove("POST", target, body)}
    for who in (other, stock):  # a captured request with another's cookie, or token
        assert post(who, target, body, **proof).status == 401
        assert guest.http.request("POST", target, body, {"Content-Type": "application/json", **proof,
                                                         "Authorization": "Bearer " + who.token}).status == 401
    assert post(guest, target, body.replace(b"nonce", b"nonc3"), **proof).status == 401
    assert post(guest, target + "?context=none", body, **proof).status == 401
    assert post(guest, target, body, **proof).status == 200
    refused = service.records("request-refused")
    assert {"session", "tee", "reason"} <= set(refused[-1]) and len(refused) >= 8
    released = service.records("release")[-1]
    assert released["proven_by"] == thumbprint(public(guest.signer, "P-256")) != released["tee_key"]


def test_an_envelope_is_for_one_request_and_the_nek_for_every_boot(service, tmp_path):
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-256")
    service.admin("key", "policy", "default/nek/k", "--policy", policy_file(tmp_path, "encrypted"))
    key, target = os.urandom(32), "/kbs/v0/key/rewrap"
    blob = recipe(tmp_path, service, "default/nek/k", key, bind(SAMPLE))
    jwk = Guest(service.guest_url, service.ca).http.request("GET", "/kbs/v0/hsm/keys").json()["keys"][0]["jwk"]
    pinned = serialization.load_pem_public_key((service.folder / "admin" / "request.pub.pem").read_bytes())
    assert pinned.public_numbers().x == int.from_bytes(unb64u(jwk["x"]), "big")

    def boot(prover):
        guest = (Prover if prover else Guest)(service.guest_url, service.ca).handshake()
        nonce = random_nonce()
        plain = json.dumps({"recipient": blob, "nonce": b64u(nonce)}).encode()
        fresh = challenge(guest)
        body = envelope(jwk, fresh, "POST", target, plain)
        headers = {"Kbs-Proof": guest.prove("POST", target, body, fresh)} if prover else {}
        return guest, nonce, body, headers

    for prover in (False, True):
        guest, nonce, body, headers = boot(prover)
        assert post(guest, target, json.dumps({"recipient": blob}), **headers).status == (401 if prover else 403)
        tampered = json.loads(body)
        tampered["tag"] = b64u(os.urandom(16))
        if not prover:
            other, _, captured, _ = boot(prover)
            assert post(guest, target, captured, "application/jose+json").status == 401
            assert post(other, target, json.dumps({**json.loads(captured), "tag": b64u(os.urandom(16))}),
                        "application/jose+json").status == 422
        assert post(guest, target + "?context=none", body, "application/jose+json", **headers).status == 401
        answer = post(guest, target, body, "application/jose+json", **headers)
        assert answer.status == 200, answer.body
        assert opens_to(guest, answer, "default/nek/k/v1", nonce, unb64u(blob["encrypted_key"])) == key
        assert post(guest, target, body, "application/jose+json", **headers).status == 401  # replayed
    assert all(record["encrypted"] == "yes" for record in service.records("release"))


def test_kbs_guest_does_both(service, tmp_path):
    service.generate("default/disk/vm1")
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-256")
    shown = service.admin_json("key", "show", "default/disk/vm1")
    key, blob, nek_public = tmp_path / "key", tmp_path / "blob", tmp_path / "public.json"
    service.admin("nek", "public", "default/nek/k", "--out", nek_public)
    service.admin("nek", "new", "--to", nek_public, "--key-out", key, "--out", blob)
    pin = service.folder / "admin" / "request.pub.pem"
    for i, options in enumerate((["--pop"], ["--encrypt"], ["--pop", "--encrypt", "--curve", "P-521", "--cose"],
                                 ["--encrypt", "--request-key", pin])):
        got = json.loads(service.guest("get-key", "default/disk/vm1", "--json", *options).stdout)
        assert got["kcv"] == shown["kcv"]
        out = tmp_path / f"out{i}"
        service.guest("rewrap", blob, "--out", out, *options)
        assert out.read_bytes() == key.read_bytes()
    assert {(r.get("encrypted"), "proven_by" in r) for r in service.records("release")} == {
        (None, True), ("yes", False), ("yes", True)}
    secret = tmp_path / "secret"
    secret.write_bytes(b"what a guest keeps")
    service.admin("secret", "set", "default/config/a", "--file", secret, "--policy", service.policy_file())
    service.guest("get-resource", "default/config/a", "--pop", "--out", tmp_path / "resource")
    assert (tmp_path / "resource").read_bytes() == secret.read_bytes()
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    assert service.guest("get-key", "default/disk/vm1", "--encrypt", "--request-key", wrong, check=False).returncode != 0
