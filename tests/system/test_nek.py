"""The NEK road through a whole service: what was wrapped offline to a key of the token, by the recipe in the documentation
or by kbs-admin, comes out for its guest with the same bytes, and for nobody else."""
import hashlib
import json
import os
import pathlib
import re
import subprocess

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from kbsguest import Guest, b64u, random_nonce, unb64u
from service import run

DOC = pathlib.Path(__file__).resolve().parents[2] / "docs/protocol/nek.md"
RECIPES = re.findall(r"^```sh\n(.*?)^```$", DOC.read_text(), re.M | re.S)
SAMPLE = [("measurement", 2, b"1")]  # svn of the sample guest of kbsguest.py


def bind(fields):
    bits = sum(1 << bit for _, bit, _ in fields)
    text = b"".join(bytes([bit]) + len(value).to_bytes(2, "big") + value for _, bit, value in fields)
    return bytes([bits]) + (hashlib.sha256(b"kbs-nek-binding-v1" + text).digest() if bits else bytes(32))


def recipe(folder, service, path, key, binding=None):
    """The documented commands, as they stand there."""
    shown = service.admin_json("key", "show", path)
    (folder / "nek.key").write_bytes(key)
    (folder / "hsm.pem").unlink(missing_ok=True)
    service.admin("nek", "public", path, "--pem", "--out", folder / "hsm.pem")
    alg = shown["public_key"]["alg"]
    env = {**os.environ, "KID": shown["kid"], "ALG": alg, "MD": "sha1" if alg == "RSA-OAEP" else "sha256"}
    if binding is not None:
        env["BINDING"] = binding.hex()
    subprocess.run(["sh", "-euc", RECIPES[1 if alg.startswith("RSA") else 0]], cwd=folder, env=env, check=True, timeout=60)
    return json.loads((folder / "nek.json").read_text())


def rewrap(guest, body, accept="application/jose+json", nonce=None, query=""):
    if nonce is not None:
        body = {**body, "nonce": b64u(nonce)}
    return guest.http.request("POST", "/kbs/v0/key/rewrap" + query, json.dumps(body),
                              {"Accept": accept, "Content-Type": "application/json", **guest.cookies()})


def party_v(guest, nonce, wrapped):
    return hashlib.sha256(b"kbs-rewrap-v1" + guest.digest + nonce + hashlib.sha256(wrapped).digest()).digest()


def opens_to(guest, answer, kid, nonce, wrapped):
    """The guest of kbsguest.py knows PartyVInfo of a release: here it is another."""
    guest.party_v = lambda _: party_v(guest, nonce, wrapped)
    try:
        if answer.headers["content-type"] == "application/jose+json":
            return guest.open_jose(answer.json(), kid, nonce)[1]
        return guest.open_cose(answer.body, kid, nonce, b"")[1]
    finally:
        del guest.party_v


def test_what_the_recipe_wraps_the_guest_unwraps(service, tmp_path):
    for alg in ("P-256", "P-384", "P-521", "RSA"):
        path = "default/nek/" + alg.lower()
        service.generate(path, "--purpose", "nek", "--alg", alg, *(["--bytes", "256"] if alg == "RSA" else []))
        key = os.urandom(32)
        blob = recipe(tmp_path, service, path, key, None if alg == "RSA" else bind(SAMPLE))
        for curve in ("P-256", "P-384", "P-521"):
            guest = Guest(service.guest_url, service.ca, curve).handshake()
            for accept in ("application/jose+json", "application/cose"):
                nonce = random_nonce()
                answer = rewrap(guest, {"recipient": blob}, accept, nonce)
                assert answer.status == 200, answer.body
                assert opens_to(guest, answer, path + "/v1", nonce, unb64u(blob["encrypted_key"])) == key
            guest.close()
    deeds = [d for d in service.records("deed") if d["op"] == "rewrap-nek"]
    assert len(deeds) == 24 and all(d["outcome"] == "done" for d in deeds)
    assert {r["bound_to"] for r in service.records("release")} == {"measurement", "nobody"}


def test_kbs_admin_and_kbs_guest_do_it_all(service, tmp_path):
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-384", "--binding-required")
    public = tmp_path / "public.json"
    service.admin("nek", "public", "default/nek/k", "--out", public)
    anybody = Guest(service.guest_url, service.ca)
    assert json.loads(public.read_text()) == anybody.http.request("GET", "/kbs/v0/hsm/keys/default/nek/k").json()
    assert service.admin("nek", "new", "--to", public, check=False).returncode == 1  # it asks for a binding

    for i, options in enumerate(([], ["--cose"])):
        key, blob, out = (tmp_path / f"{name}{i}" for name in ("key", "blob", "out"))
        service.admin("nek", "new", "--to", public, "--bind", "measurement=text:sample", "--key-out", key, "--out", blob,
                      *options)
        said = service.admin_json("nek", "inspect", blob)
        assert said["kid"] == "default/nek/k/v1" and said["bound_to"] == ["measurement"] and said["chosen_by_host"] == []
        refused = service.guest("rewrap", blob, check=False)  # kbs-guest's svn is another
        assert refused.returncode == 4, refused.stderr
        blob.unlink()
        svn = re.search(r'"svn": *"([^"]*)"', claims_of(service)).group(1)
        service.admin("nek", "wrap", "--to", public, "--bind", f"measurement=text:{svn}", "--in", key, "--out", blob,
                      *options)
        service.guest("rewrap", blob, "--out", out, *options)
        assert out.read_bytes() == key.read_bytes()


def claims_of(service):
    token = service.guest("attest").stdout
    text = re.search(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+", token).group(1)
    return unb64u(text).decode()


def test_another_guests_nek_is_refused_and_the_audit_says_why(service, tmp_path):
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-256")
    key = os.urandom(32)
    guest = Guest(service.guest_url, service.ca).handshake()
    own = recipe(tmp_path, service, "default/nek/k", key, bind(SAMPLE))
    assert rewrap(guest, {"recipient": own}).status == 200

    others = recipe(tmp_path, service, "default/nek/k", key, bind([("measurement", 2, b"2")]))
    answer = rewrap(guest, {"recipient": others})
    assert answer.status == 403 and "bound to another guest" in answer.json()["detail"]
    denied = service.records("release-denied")[-1]
    assert denied["bound_to"] == "measurement" and "bound to another guest" in denied["reason"]

    hosts = recipe(tmp_path, service, "default/nek/k", key, bind([("chip-id", 4, b"c" * 64)]))
    answer = rewrap(guest, {"recipient": hosts})
    assert answer.status == 403 and "has no chip-id" in answer.json()["detail"]

    # the blob of another, with our binding written over its own: the token's derivation is another
    forged = json.loads(json.dumps(others))
    forged["header"]["apv"] = own["header"]["apv"]
    answer = rewrap(guest, {"recipient": forged})
    assert answer.status == 422, answer.body

    # replayed at the next boot, by a new handshake, it opens again
    again = Guest(service.guest_url, service.ca).handshake()
    nonce = random_nonce()
    answer = rewrap(again, {"recipient": own}, nonce=nonce)
    assert opens_to(again, answer, "default/nek/k/v1", nonce, unb64u(own["encrypted_key"])) == key


def test_bad_requests(service, tmp_path):
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-256")
    service.generate("default/disk/vm1")
    blob = recipe(tmp_path, service, "default/nek/k", os.urandom(32))

    def changed(**header):
        copy = json.loads(json.dumps(blob))
        copy["header"].update(header)
        return {"recipient": copy}

    assert rewrap(Guest(service.guest_url, service.ca), {"recipient": blob}).status == 401
    guest = Guest(service.guest_url, service.ca).handshake()
    cases = [
        (400, {}), (400, {"recipient": blob, "cose": "00"}), (400, {"recipient": []}), (400, {"cose": "!"}),
        (400, {"cose": b64u(b"\xd8\x60\x80")}), (400, {"recipient": blob, "more": 1}),
        (400, changed(alg="dir")), (400, changed(kid="default/nek/k")), (400, changed(kid="default/nek/k/v0")),
        (404, changed(kid="default/nek/k/v2")), (404, changed(kid="default/nek/other/v1")),
        (422, changed(apu=b64u(b"kbs-import-v1"))), (400, changed(apv=b64u(b"\x80" + bytes(32)))),
        (400, changed(apv=b64u(bytes(32)))), (422, changed(epk={**blob["header"]["epk"], "x": blob["header"]["epk"]["y"]})),
        (403, changed(kid="default/disk/vm1/v1")),  # a key for release opens nothing
        (422, {"recipient": {**blob, "encrypted_key": b64u(bytes(40))}}),
        (400, {"recipient": {**blob, "encrypted_key": b64u(bytes(41))}}),
    ]
    for status, body in cases:
        answer = rewrap(guest, body)
        assert answer.status == status, (status, body, answer.status, answer.body)
    assert guest.get_key("default/nek/k").status == 403  # and a key of purpose nek is not released
    service.admin("key", "disable", "default/nek/k")
    assert rewrap(guest, {"recipient": blob}).status == 403
    anybody = Guest(service.guest_url, service.ca)
    for path, status in (("default/nek/k", 404), ("default/disk/vm1", 404), ("default/no/key", 404)):
        assert anybody.http.request("GET", "/kbs/v0/hsm/keys/" + path).status == status
