"""kbs-admin secret and kbs-guest get-resource without a service: what is sealed, what is refused."""
import json
import os

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from doubles import CURVES, JSON, Kbs, concat_kdf, error
from stub import Stub, b64u, jwk, new_key, run, thumbprint, unb64u

PATH = "a/b/c"
TARGET = "/kbs/v0/admin/secrets/a/b/c"
SECRET = {"path": PATH, "version": 1, "kid": "a/b/c/v1", "bytes": 5, "state": "enabled", "seal_key": 1,
          "created": 1700000000, "policy": None}
POLICY = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.tee", "equals": "sample"}]}]}


# ---- kbs-admin secret set: docs/protocol/sealed-secrets.md


def open_sealed(jwe, seal_key, name):
    assert list(jwe) == ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
    text = unb64u(jwe["protected"])
    header = json.loads(text)
    assert list(header) == ["alg", "enc", "apu", "apv", "epk", "kid"] and list(header["epk"]) == ["crv", "kty", "x", "y"]
    assert text == json.dumps(header, separators=(",", ":")).encode()
    assert (header["alg"], header["enc"]) == ("ECDH-ES+A256KW", "A256GCM")
    assert header["kid"] == thumbprint(seal_key.public_key())
    assert (unb64u(header["apu"]), unb64u(header["apv"])) == (b"kbs-seal-v1", name)
    cek = aes_key_unwrap(concat_kdf(seal_key, header["epk"], b"kbs-seal-v1", name), unb64u(jwe["encrypted_key"]))
    assert len(cek) == 32 and len(unb64u(jwe["iv"])) == 12
    return AESGCM(cek).decrypt(unb64u(jwe["iv"]), unb64u(jwe["ciphertext"]) + unb64u(jwe["tag"]),
                               jwe["protected"].encode())


@pytest.mark.parametrize("size", [1, 5000, 131072])
def test_set_seals_to_the_pinned_key(admin, size, tmp_path):
    value = os.urandom(size)
    (tmp_path / "value").write_bytes(value)
    (tmp_path / "policy").write_text(json.dumps(POLICY))
    admin.answers[("POST", TARGET)] = (200, JSON, {**SECRET, "bytes": size, "policy": POLICY})
    done = admin.run("secret", "set", PATH, "--file", tmp_path / "value", "--policy", tmp_path / "policy")
    assert done.returncode == 0 and f"{size} bytes".encode() in done.stdout, done.stderr
    assert admin.run("secret", "set", PATH, stdin=None, input=value).returncode == 0
    (_, with_policy), (_, without) = admin.mutations()
    assert set(with_policy) == {"jwe", "policy"} and with_policy["policy"] == POLICY and set(without) == {"jwe"}
    assert open_sealed(with_policy["jwe"], admin.seal_key, b"a/b/c/v1") == value
    assert open_sealed(without["jwe"], admin.seal_key, b"a/b/c/v1") == value
    assert all(with_policy["jwe"][name] != without["jwe"][name] for name in ("protected", "encrypted_key", "iv", "tag"))
    if size > 16:
        sent = b"".join(seen[3] for seen in admin.server.seen)
        assert value not in sent and b64u(value).encode() not in sent and value.hex().encode() not in sent


@pytest.mark.parametrize("state", ["enabled", "destroyed"])
def test_the_next_version_is_sealed_in(admin, state):
    admin.answers[("GET", TARGET)] = (200, JSON, {**SECRET, "version": 6, "state": state})
    admin.answers[("POST", TARGET)] = (200, JSON, {**SECRET, "version": 7})
    assert admin.run("secret", "set", PATH, stdin=None, input=b"value").returncode == 0
    [(_, body)] = admin.mutations()
    assert open_sealed(body["jwe"], admin.seal_key, b"a/b/c/v7") == b"value"
    with pytest.raises(InvalidTag):
        open_sealed({**body["jwe"], "iv": b64u(bytes(12))}, admin.seal_key, b"a/b/c/v7")


def test_another_key_is_accepted_by_its_thumbprint(admin):
    admin.seal_key = new_key()  # rotated; the profile still pins the one before
    accepted = thumbprint(admin.seal_key.public_key())
    admin.answers[("POST", TARGET)] = (200, JSON, SECRET)
    wrong = admin.run("secret", "set", PATH, "--seal-key", "A" * 43, stdin=None, input=b"value")
    assert wrong.returncode == 3 and b"--seal-key" in wrong.stderr and not admin.mutations()
    assert admin.run("secret", "set", PATH, "--seal-key", accepted, stdin=None, input=b"value").returncode == 0
    [(_, body)] = admin.mutations()
    assert open_sealed(body["jwe"], admin.seal_key, b"a/b/c/v1") == b"value"


def test_nothing_is_sealed_to_another_key(admin):
    pinned = admin.seal_key
    admin.seal_key = new_key()  # the server says the pinned thumbprint all the same
    done = admin.run("secret", "set", PATH, stdin=None, input=b"value")
    assert done.returncode == 3 and b"pinned" in done.stderr
    admin.seal_key = pinned
    profile = json.loads((admin.folder / "profile.json").read_text())
    del profile["seal_key"]
    (admin.folder / "profile.json").write_text(json.dumps(profile))
    assert admin.run("secret", "set", PATH, stdin=None, input=b"value").returncode == 3
    admin.write_profile()
    other = ec.generate_private_key(ec.SECP384R1()).public_key().public_numbers()
    wrong = {"crv": "P-384", "kty": "EC", "x": b64u(other.x.to_bytes(48, "big")), "y": b64u(other.y.to_bytes(48, "big"))}
    off_curve = {**jwk(pinned.public_key()), "x": b64u(os.urandom(32))}
    for key in (wrong, off_curve, {}, None):
        admin.answers["/kbs/v0/admin/seal-key"] = (200, JSON, {"key": key, "thumbprint": admin.pinned_seal, "version": 1})
        assert admin.run("secret", "set", PATH, stdin=None, input=b"value").returncode == 1
    assert admin.mutations() == []


def test_other_sizes_are_refused(admin):
    for value in (b"", bytes(131073)):
        assert admin.run("secret", "set", PATH, stdin=None, input=value).returncode == 1
    assert admin.run("secret", "set", PATH, "--file", admin.folder / "missing").returncode == 1
    assert admin.server.seen == []


@pytest.mark.parametrize("status, code", [(403, 4), (409, 6), (422, 1), (503, 7)])
def test_a_refusal_is_told(admin, status, code):
    admin.answers[("POST", TARGET)] = error(status, "because of this")
    done = admin.run("secret", "set", PATH, stdin=None, input=b"value")
    assert done.returncode == code and done.stdout == b"" and b"because of this" in done.stderr
    admin.answers[("GET", TARGET)] = error(503)  # the version is not known then
    assert admin.run("secret", "set", PATH, stdin=None, input=b"value").returncode == 7
    assert len(admin.mutations()) == 1


def test_dry_runs_change_nothing(admin):
    admin.answers[("GET", TARGET)] = (200, JSON, SECRET)
    done = admin.run("secret", "set", PATH, "--dry-run", "--json", stdin=None, input=b"value")
    assert done.returncode == 0, done.stderr
    assert open_sealed(json.loads(done.stdout)["body"]["jwe"], admin.seal_key, b"a/b/c/v2") == b"value"
    assert admin.run("secret", "delete", PATH, "--dry-run").returncode == 0
    assert {seen[0] for seen in admin.server.seen} == {"GET"}


# ---- list, show, policy, delete


def test_policy_is_sent_without_the_value(admin, tmp_path):
    (tmp_path / "policy").write_text(json.dumps(POLICY))
    admin.answers[("POST", TARGET + "/policy")] = (200, JSON, {**SECRET, "policy": POLICY})
    done = admin.run("secret", "policy", PATH, "--policy", tmp_path / "policy", "--dry-run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["body"] == {"policy": POLICY} and admin.mutations() == []
    done = admin.run("secret", "policy", PATH, "--policy", tmp_path / "policy")
    assert done.returncode == 0 and b"kbs.tee" in done.stdout, done.stderr
    assert admin.mutations() == [(TARGET + "/policy", {"policy": POLICY})]
    assert admin.run("secret", "policy", PATH, "--policy", tmp_path / "none").returncode == 1
    admin.answers[("POST", TARGET + "/policy")] = error(404, "no such secret")
    assert admin.run("secret", "policy", PATH, "--policy", tmp_path / "policy").returncode == 5


def test_list_show_and_delete(admin):
    listed = {name: SECRET[name] for name in SECRET if name != "policy"}
    admin.answers["/kbs/v0/admin/secrets"] = (200, JSON, {"secrets": [listed, {**listed, "path": "a/longer/path"}]})
    rows = admin.run("secret", "list").stdout.decode().splitlines()
    assert len(rows) == 3 and rows[0].split() == ["PATH", "VERSION", "BYTES", "CREATED"]
    assert len({row.index("2023-11-14T22:13:20Z") for row in rows[1:]}) == 1
    assert json.loads(admin.run("--json", "secret", "list").stdout)["secrets"][0] == listed

    admin.answers[("GET", TARGET)] = (200, JSON, {**SECRET, "policy": POLICY})
    shown = admin.run("secret", "show", PATH).stdout.decode()
    assert "5 bytes" in shown and "kbs.tee" in shown and "enabled" in shown
    assert json.loads(admin.run("secret", "show", PATH, "--json").stdout)["policy"] == POLICY

    admin.answers[("DELETE", TARGET)] = (200, JSON, {**SECRET, "state": "destroyed"})
    assert b"destroyed" in admin.run("secret", "delete", PATH).stdout
    admin.answers[("DELETE", TARGET)] = error(404)
    assert admin.run("secret", "delete", PATH).returncode == 5
    assert [seen[:2] for seen in admin.server.seen if seen[0] == "DELETE"] == 2 * [("DELETE", TARGET)]


@pytest.mark.parametrize("argv, answer", [
    (["list"], {}), (["list"], {"secrets": {}}), (["list"], {"secrets": [1]}), (["list"], {"secrets": [{"path": PATH}]}),
    (["show", PATH], {}), (["show", PATH], {**SECRET, "bytes": "5"}), (["delete", PATH], [])])
def test_answers_of_another_shape(admin, argv, answer):
    admin.answers["/kbs/v0/admin/secrets"] = admin.answers[TARGET] = (200, JSON, answer)
    done = admin.run("secret", *argv)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr


# ---- kbs-guest get-resource


def rsa_scheme(alg):
    if alg == "RSA1_5":
        return padding.PKCS1v15()
    digest = hashes.SHA256() if alg == "RSA-OAEP-256" else hashes.SHA1()
    return padding.OAEP(padding.MGF1(digest), digest, None)


def seal_to(tee, plain, cek=None, curve=None, **changes):
    """The JWE of docs/protocol/sealed-secrets.md, to a TEE key; `changes` are of its header."""
    cek = cek or os.urandom(32)
    header = {"alg": tee["alg"], "enc": "A256GCM"}
    if tee["kty"] == "RSA":
        n, e = (int.from_bytes(unb64u(tee[name]), "big") for name in "ne")
        wrapped = rsa.RSAPublicNumbers(e, n).public_key().encrypt(cek, rsa_scheme(tee["alg"]))
    else:
        ephemeral = ec.generate_private_key(CURVES[curve or tee["crv"]])
        own = ephemeral.public_key().public_numbers()
        size = (ephemeral.key_size + 7) // 8
        header["epk"] = {"crv": curve or tee["crv"], "kty": "EC", "x": b64u(own.x.to_bytes(size, "big")),
                         "y": b64u(own.y.to_bytes(size, "big"))}
        wrapped = aes_key_wrap(concat_kdf(ephemeral, tee) if curve is None else os.urandom(32), cek)
    protected = b64u(json.dumps(header | changes, separators=(",", ":")).encode())
    iv = os.urandom(12)
    sealed = AESGCM(cek).encrypt(iv, plain, protected.encode())
    return {"protected": protected, "encrypted_key": b64u(wrapped), "iv": b64u(iv), "ciphertext": b64u(sealed[:-16]),
            "tag": b64u(sealed[-16:])}


def get_resource(server, *options, **kwargs):
    return run("kbs-guest", "get-resource", PATH, "--url", server.url, *options, **kwargs)


@pytest.mark.parametrize("options", [[], ["--curve", "P-384"], ["--curve", "P-521"], ["--tee-alg", "RSA-OAEP-256"],
                                     ["--tee-alg", "RSA-OAEP"], ["--tee-alg", "RSA1_5", "--protocol", "0.2.0"]])
def test_get_resource_opens_the_answer(tmp_path, options):
    value = os.urandom(131072)
    with Stub(Kbs(*3 * [lambda tee: (200, JSON, seal_to(tee, value))])) as server:
        done = get_resource(server, "--out", tmp_path / "out", "--answer-out", tmp_path / "answer", *options)
        assert done.returncode == 0 and b"131072 bytes" in done.stdout, done.stderr
        assert (tmp_path / "out").read_bytes() == value and (tmp_path / "out").stat().st_mode & 0o777 == 0o600
        assert set(json.loads((tmp_path / "answer").read_text())) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
        assert get_resource(server, "--out", "-", *options).stdout == value
        assert json.loads(get_resource(server, "--json", *options).stdout) == {"path": PATH, "bytes": 131072}
        assert [seen[1] for seen in server.seen if "/resource/" in seen[1]] == 3 * ["/kbs/v0/resource/a/b/c"]


def flipped(tee, name):
    jwe = seal_to(tee, b"value")
    data = bytearray(unb64u(jwe[name]))
    data[0] ^= 1
    return {**jwe, name: b64u(data)}


@pytest.mark.parametrize("answer", [
    lambda tee: flipped(tee, "encrypted_key"), lambda tee: flipped(tee, "iv"), lambda tee: flipped(tee, "ciphertext"),
    lambda tee: flipped(tee, "tag"), lambda tee: flipped(tee, "protected"),
    lambda tee: seal_to(tee, b"value", zip="DEF"), lambda tee: seal_to(tee, b"value", enc="A128GCM"),
    lambda tee: seal_to(tee, b"value", alg="dir"), lambda tee: seal_to(tee, b"value", alg="RSA-OAEP"),
    lambda tee: seal_to(tee, b"value", apu="AA"), lambda tee: seal_to(tee, b"value", kid="a"),
    lambda tee: seal_to(tee, b"value", cek=bytes(16)), lambda tee: seal_to(tee, b"value", curve="P-384"),
    lambda tee: seal_to(tee, b""), lambda tee: {**seal_to(tee, b"value"), "aad": "AA"},
    lambda tee: {**seal_to(tee, b"value"), "unprotected": {}},
    lambda tee: seal_to({**jwk(new_key().public_key()), "alg": tee["alg"]}, b"value"),
    lambda tee: {}, lambda tee: [], lambda tee: b"", lambda tee: b"value"])
def test_get_resource_refuses(tmp_path, answer):
    with Stub(Kbs(lambda tee: (200, JSON, answer(tee)))) as server:
        done = get_resource(server, "--out", tmp_path / "out")
    assert done.returncode == 1 and done.stdout == b"" and done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("answer", [
    lambda tee: flipped(tee, "encrypted_key"), lambda tee: flipped(tee, "tag"), lambda tee: seal_to(tee, b"value", cek=bytes(16)),
    lambda tee: seal_to(tee, b"value", cek=bytes(24)), lambda tee: seal_to(tee | {"alg": "RSA-OAEP"}, b"value", alg="RSA1_5")])
def test_rsa1_5_fails_in_one_way(tmp_path, answer):
    """What the padding hid is not told apart from a content that was changed (RFC 7516 section 11.5)."""
    with Stub(Kbs(lambda tee: (200, JSON, answer(tee)))) as server:
        done = get_resource(server, "--out", tmp_path / "out", "--tee-alg", "RSA1_5")
    assert done.returncode == 1 and b"fails its integrity check" in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_get_resource_minds_type_status_and_files(tmp_path):
    (tmp_path / "out").write_bytes(b"precious")
    busy = (503, {**JSON, "Retry-After": "1"}, {"type": "x", "detail": "token down"})

    def good(tee):
        return 200, JSON, seal_to(tee, b"value")

    for answers, code in (([lambda tee: (200, {"Content-Type": "text/plain"}, seal_to(tee, b"value"))], 1),
                          ([error(401), good], 0), ([error(401), error(401)], 3), ([error(403)], 4), ([error(404)], 5),
                          ([error(501)], 9), ([busy, good], 0)):
        with Stub(Kbs(*answers)) as server:
            done = get_resource(server)
        assert done.returncode == code, done.stderr
    with Stub(Kbs(good)) as server:
        assert get_resource(server, "--out", tmp_path / "out").returncode == 6
    assert (tmp_path / "out").read_bytes() == b"precious"
