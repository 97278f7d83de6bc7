"""kbs-admin and kbs-guest without a service: usage, exit statuses, signatures, and servers that misbehave."""
import hashlib
import hmac
import json
import os
import pathlib
import pty
import re
import socket
import subprocess

import pytest
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from doubles import JSON, Kbs, concat_kdf, error
from stub import BIN, Stub, b64u, new_key, run, thumbprint, unb64u, write_certificate

KEY = {"path": "a/b/c", "version": 1, "kid": "a/b/c/v1", "purpose": "release", "provenance": "generated",
       "alg": "AES", "bytes": 32, "class": "resident", "state": "enabled", "floor": "transport",
       "kcv": "01020304", "kcv_mac": "HMAC-SHA-256", "wrapping_key": None, "destroy_at": None, "created": 1700000000}


# ---- usage


@pytest.mark.parametrize("argv", [
    [], ["bogus"], ["key"], ["key", "bogus"], ["--bogus"], ["key", "list", "extra"], ["key", "list", "-x"],
    ["key", "generate"], ["key", "generate", "a/b"], ["key", "generate", "../b/c"], ["key", "generate", "a/b/c", "d"],
    ["key", "generate", "a/b/c", "--bytes", "20"], ["key", "generate", "a/b/c", "--bytes", "0x10"],
    ["key", "generate", "a/b/c", "--bytes"], ["key", "generate", "a/b/c", "--byte", "16"],
    ["key", "generate", "a/b/c", "--alg", "DES"], ["key", "generate", "a/b/c", "--alg", "AES", "--bytes", "40"],
    ["key", "generate", "a/b/c", "--class", "sealed"], ["key", "adopt", "a/b/c"], ["wrapping-key", "destroy"],
    ["key", "destroy", "a/b/c", "--after", "31536001"],
    ["key", "generate", "a/b/c", "--floor", "basement"], ["key", "generate", "a/b/c", "--policy="],
    ["key", "import", "a/b/c"], ["key", "show", "a/b/c", "--version", "0"], ["key", "show", "a/b/c", "--json=yes"],
    ["key", "show", "a/b/c", "--version", "4294967296"],
    ["secret"], ["secret", "set"], ["secret", "set", "a/b"], ["secret", "set", "a/b/c", "value"], ["secret", "list", "a/b/c"],
    ["secret", "set", "a/b/c", "--floor", "worker"], ["secret", "show", "../b/c"], ["secret", "delete"],
    ["secret", "policy", "a/b/c"], ["secret", "show", "a/b/c", "--policy", "x"],
    ["receipt"], ["receipt", "verify"], ["receipt", "verify", "x"], ["receipt", "verify", "x", "y", "--answer", "z"],
    ["receipt", "verify", "x", "--answer", "y", "--key", "k", "--jwks", "j"], ["receipt-key"], ["receipt-key", "make", "x"],
    ["tls"], ["tls", "make-key", "--curve", "P-521"], ["tls", "destroy-key"], ["tls", "list-keys", "x"],
    ["initdata", "make"], ["initdata", "make", "--tls-pin", "a", "--tls-cert", "b"],
    ["tls"], ["tls", "csr"], ["tls", "csr", "x", "--san", "DNS:a"], ["tls", "csr", "--san", "DNS:a", "--days", "1"],
    *(["tls", "csr", "--san", san] for san in (
        "a", "DNS:", "DNS:a b", "DNS:a,", ",DNS:a", "DNS:a..b", "DNS:.a", "DNS:a.", "DNS:-a", "DNS:a-.b", "DNS:a.*", "DNS:*", "DNS:*.",
        "DNS:b\u00fccher", "DNS:" + 64 * "a", "DNS:" + ".".join(5 * [60 * "a"]), "IP:1.2.3", "IP:1.2.3.4/8", "IP:::g", "IP:",
        "email:a@b", "URI:https://a", "dirName:a", "otherName:1.2;UTF8:a", "DNS:a,dirName:a", "DNS:a\nDNS:b")),
    *(["tls", "csr", "--san", "DNS:a", "--subject", subject] for subject in (
        "a", "CN", "CN=", "=a", "CN=a,", "CN=a,O=", "Nothing=a", "CN=a+O=b", 'CN="a"', "CN=" + 65 * "a", "C=Germany",
        "CN=" + 300 * "a", "CN=\\ff")),
    ["tls", "csr", "--san", "DNS:a", "--listener", "both"], ["--dry-run", "tls", "csr", "--san", "DNS:a"],
    ["tls", "selfsigned"], ["tls", "selfsigned", "--san", "DNS:a", "--days", "0"],
    ["tls", "selfsigned", "--san", "DNS:" + ".".join(2 * [40 * "a"])],  # no CN can be made of it
    ["tls", "install"], ["tls", "install", "a", "b"], ["tls", "install", "a", "--pid", "0"], ["tls", "show", "x"],
    ["init", "x", "--tls-key", "tpm"],
    ["init"], ["init", "x", "--token", "yubikey"], ["init", "x", "--listen", "localhost:1"],
    ["init", "x", "--admin-listen", "1.2.3.4"], ["init", "x", "--lanes", "0"], ["init", "x", "--lanes", "33"],
])
def test_kbs_admin_wrong_usage(argv, tmp_path):
    done = run("kbs-admin", *argv, cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stdout == b"" and b"usage: kbs-admin" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [
    [], ["bogus"], ["attest"], ["attest", "--url"], ["attest", "--url", "http://127.0.0.1:1", "--curve", "P-192"],
    ["get-key", "--url", "http://127.0.0.1:1"], ["get-key", "a/b", "--url", "http://127.0.0.1:1"],
    ["get-key", "a/b/c", "--url", "http://127.0.0.1:1", "--nonce", "00"],
    ["get-key", "a/b/c", "--url", "http://127.0.0.1:1", "--salt", "00"],
    ["get-key", "a/b/c", "--url", "http://127.0.0.1:1", "--cose", "--salt", "0"],
    ["get-key", "a/b/c", "--recipient-in", "x"], ["open"], ["open", "x", "--path", "a/b/c"],
    ["get-resource", "--url", "http://127.0.0.1:1"], ["get-resource", "a/b", "--url", "http://127.0.0.1:1"],
    ["get-resource", "a/b/c"], ["get-resource", "a/b/c", "--url", "http://127.0.0.1:1", "--cose"],
    ["get-resource", "a/b/c", "--url", "http://127.0.0.1:1", "--tee-alg", "RSA-OAEP-512"],
    ["get-resource", "a/b/c", "--url", "http://127.0.0.1:1", "--protocol", "0.3.0"],
    ["attest", "--url", "http://127.0.0.1:1", "--protocol", "none"],
])
def test_kbs_guest_wrong_usage(argv, tmp_path):
    done = run("kbs-guest", *argv, cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stdout == b"" and b"usage: kbs-guest" in done.stderr


ADMIN_COMMANDS = [[], ["init"], *(["key", c] for c in (
    "generate", "import", "adopt", "list", "show", "rotate", "policy", "disable", "enable", "destroy", "undo")),
    *(["wrapping-key", c] for c in ("show", "rotate", "rewrap", "destroy")),
    *(["seal-key", c] for c in ("show", "rotate", "reseal", "destroy")),
    *(["secret", c] for c in ("set", "list", "show", "policy", "delete")), ["token", "caps"], ["store", "accept"], ["audit", "verify"],
    *(["alias", c] for c in ("set", "list", "remove")),
    *(["policy", c] for c in ("explain", "test")), ["release", "dry-run"],
    ["initdata", "make"], ["receipt", "verify"], ["receipt-key", "show"], ["receipt-key", "make"],
    *(["tls", c] for c in ("csr", "selfsigned", "install", "show")),
    *(["tls", c] for c in ("list-keys", "make-key", "destroy-key"))]
GUEST_COMMANDS = [[], ["attest"], ["get-key"], ["get-resource"], ["rewrap"], ["open"]]


@pytest.mark.parametrize("program, commands", [("kbs-admin", ADMIN_COMMANDS), ("kbs-guest", GUEST_COMMANDS)])
def test_help_and_version(program, commands):
    for command in commands:
        done = run(program, *command, "--help")
        assert done.returncode == 0 and done.stderr == b""
        assert done.stdout.startswith(b"Usage: " + " ".join([program] + command).encode())
        assert max(len(line) for line in done.stdout.decode().splitlines()) <= 100
    assert run(program, "--version").stdout.startswith(program.encode() + b" 0.")


def test_unsupported_evidence():
    assert run("kbs-guest", "attest", "--url", "http://127.0.0.1:1", "--tee", "snp").returncode == 9


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8080", "http://127.0.0.1/path", "http://127.0.0.1?q=1",
                                 "http://user@127.0.0.1", "file:///etc/passwd", "http://127.0.0.1/#x", ""])
def test_other_urls_are_refused(url):
    done = run("kbs-guest", "attest", f"--url={url}")
    assert done.returncode in (1, 2) and done.stderr


@pytest.mark.parametrize("command", ["get-key", "get-resource"])
def test_a_secret_is_not_written_to_a_terminal(command):
    master, slave = pty.openpty()
    done = subprocess.run([BIN / "kbs-guest", command, "a/b/c", "--url", "http://127.0.0.1:1", "--out", "-"],
                          stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE, timeout=60)
    os.close(slave)
    os.close(master)
    assert done.returncode == 2 and b"terminal" in done.stderr


# ---- kbs-admin and its server


def test_list_and_show(admin):
    admin.answers["/kbs/v0/admin/keys"] = (200, JSON, {"keys": [KEY, {**KEY, "kid": "a/longer/path/v1"}]})
    admin.answers["/kbs/v0/admin/keys/a/b/c?version=1"] = (200, JSON, {**KEY, "policy": None})
    done = admin.run("key", "list")
    assert done.returncode == 0, done.stderr
    rows = done.stdout.decode().splitlines()
    assert len(rows) == 3 and len({row.index("01020304") for row in rows[1:]}) == 1
    assert json.loads(admin.run("--json", "key", "list").stdout)["keys"][0] == KEY
    shown = admin.run("key", "show", "a/b/c", "--version", "1").stdout.decode()
    assert "key check value   01020304\n" in shown and "2023-11-14T22:13:20Z" in shown and "denied" in shown
    assert json.loads(admin.run("key", "show", "a/b/c", "--version", "1", "--json").stdout)["policy"] is None
    assert admin.sequences == sorted(set(admin.sequences))


@pytest.mark.parametrize("what,member", [("keys", "kid"), ("secrets", "path")])
def test_lists_are_read_to_their_end(admin, what, member):
    def item(n):
        path = f"a/b/{n}"
        return {**KEY, "path": path, "kid": path + "/v1"}

    base = f"/kbs/v0/admin/{what}"
    pages = [[item(1), item(2)], [item(3)]]
    admin.answers[base] = (200, JSON, {what: pages[0], "more": True})
    admin.answers[f"{base}?after={pages[0][-1][member]}"] = (200, JSON, {what: pages[1], "more": False})
    done = admin.run(what[:-1], "list", "--json")
    assert json.loads(done.stdout) == {what: pages[0] + pages[1]}, done.stderr
    assert len(admin.run(what[:-1], "list").stdout.splitlines()) == 4
    admin.answers[base] = (200, JSON, {what: [], "more": True})
    assert admin.run(what[:-1], "list").returncode != 0
    admin.answers[base] = (200, JSON, {what: [{**item(1), member: "x?y=z"}], "more": True})
    assert admin.run(what[:-1], "list").returncode != 0


def test_profile_from_the_environment_and_the_folder(admin):
    admin.answers["/kbs/v0/admin/keys"] = (200, JSON, {"keys": []})
    env = {"KBS_ADMIN_PROFILE": str(admin.folder / "profile.json")}
    assert run("kbs-admin", "key", "list", env=env).returncode == 0
    (admin.folder / "admin").symlink_to(admin.folder)
    assert run("kbs-admin", "key", "list", cwd=admin.folder, env={"KBS_ADMIN_PROFILE": ""}).returncode == 0
    assert run("kbs-admin", "key", "list", cwd="/", env={"KBS_ADMIN_PROFILE": ""}).returncode == 1


def test_generate_sends_what_was_asked(admin, tmp_path):
    policy = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.tee", "equals": "sample"}]}]}
    (tmp_path / "policy.json").write_text(json.dumps(policy, indent=8))
    admin.answers["/kbs/v0/admin/keys"] = (200, JSON, KEY)
    done = admin.run("key", "generate", "a/b/c", "--bytes", "16", "--floor", "token", "--policy",
                     tmp_path / "policy.json")
    assert done.returncode == 0 and b"key check value   01020304\n" in done.stdout, done.stderr
    assert admin.mutations() == [("/kbs/v0/admin/keys", {
        "path": "a/b/c", "purpose": "release", "alg": "AES", "bytes": 16, "floor": "token", "policy": policy})]
    (tmp_path / "policy.json").write_text('{"a":1,"a":2}')
    assert admin.run("key", "generate", "a/b/c", "--policy", tmp_path / "policy.json").returncode == 1
    assert len(admin.mutations()) == 1


def test_dry_run_changes_nothing(admin, tmp_path):
    done = admin.run("key", "generate", "a/b/c", "--dry-run", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["body"]["path"] == "a/b/c"
    (tmp_path / "key").write_bytes(os.urandom(32))
    assert admin.run("key", "import", "a/b/c", "--key-file", tmp_path / "key", "--dry-run").returncode == 0
    admin.answers["/kbs/v0/admin/keys/a/b/c"] = (200, JSON, {**KEY, "policy": None})
    assert admin.run("key", "generate", "a/b/c", "--dry-run").returncode == 6
    assert admin.mutations() == []


def open_recipient(recipient, private, apv):
    """ECDH-ES+A256KW by another library (RFC 7518 section 4.6)."""
    header = recipient["header"]
    assert header["alg"] == "ECDH-ES+A256KW" and header["kid"] == thumbprint(private.public_key())
    assert unb64u(header["apu"]) == b"kbs-import-v1" and unb64u(header["apv"]) == apv
    kek = concat_kdf(private, header["epk"], b"kbs-import-v1", apv)
    return keywrap.aes_key_unwrap(kek, unb64u(recipient["encrypted_key"]))


def kcv(key):
    return hmac.new(key, b"kbs-kcv", hashlib.sha256).digest()[:4].hex()


@pytest.mark.parametrize("size", [16, 24, 32, 64])
def test_import_wraps_to_the_pinned_key(admin, size):
    key = os.urandom(size)
    answer = {**KEY, "provenance": "imported", "kcv": kcv(key)}
    admin.answers["/kbs/v0/admin/keys/a/b/c/import"] = (200, JSON, answer)
    done = run("kbs-admin", "--profile", admin.folder / "profile.json", "key", "import", "a/b/c", "--key-file", "-",
               stdin=None, input=key)
    assert done.returncode == 0 and kcv(key).encode() in done.stdout, done.stderr
    [(_, body)] = admin.mutations()
    assert set(body) == {"recipient"}
    assert open_recipient(body["recipient"], admin.import_key, b"a/b/c/v1") == key
    assert all(key not in seen[3] and b64u(key).encode() not in seen[3] for seen in admin.server.seen)


def test_import_of_a_next_version(admin):
    key = os.urandom(16)
    mac = CMAC(AES(key))
    mac.update(b"kbs-kcv")
    admin.answers["/kbs/v0/admin/keys/a/b/c"] = (200, JSON, {**KEY, "version": 6, "newest": 7, "policy": None})
    admin.answers["/kbs/v0/admin/keys/a/b/c/import"] = (
        200, JSON, {**KEY, "kcv": mac.finalize()[:4].hex(), "kcv_mac": "AES-CMAC"})
    done = admin.run("key", "import", "a/b/c", "--rotate", "--class", "wrapped", "--key-file", "-", stdin=None,
                     input=key)
    assert done.returncode == 0, done.stderr
    [(_, body)] = admin.mutations()
    assert body["rotate"] is True and body["class"] == "wrapped"
    assert open_recipient(body["recipient"], admin.import_key, b"a/b/c/v8") == key


@pytest.mark.parametrize("argv, method, target, body", [
    (["rotate", "a/b/c"], "POST", "a/b/c/rotate", {}),
    (["rotate", "a/b/c", "--class", "wrapped", "--floor", "token"], "POST", "a/b/c/rotate",
     {"class": "wrapped", "floor": "token"}),
    (["policy", "a/b/c", "--version", "2", "--floor", "worker"], "POST", "a/b/c/policy?version=2", {"floor": "worker"}),
    (["adopt", "pkcs11:object=\"x\"", "a/b/c"], "POST", "a/b/c/adopt", {"uri": "pkcs11:object=\"x\""}),
    (["disable", "a/b/c", "--version", "4294967295"], "POST", "a/b/c/disable?version=4294967295", None),
    (["enable", "a/b/c"], "POST", "a/b/c/enable", None),
    (["destroy", "a/b/c"], "DELETE", "a/b/c", {"after_s": 604800}),
    (["destroy", "a/b/c", "--after", "0", "--version", "3"], "DELETE", "a/b/c?version=3", {"after_s": 0}),
    (["undo", "a/b/c"], "POST", "a/b/c/undo", None)])
def test_changes_of_a_key(admin, argv, method, target, body):
    target = "/kbs/v0/admin/keys/" + target
    admin.answers[(method, target)] = (200, JSON, {**KEY, "destroy_at": 1700000000, "gone": "now"})
    assert admin.run("key", *argv, "--dry-run").returncode == 0
    assert not [seen for seen in admin.server.seen if seen[0] == method]
    done = admin.run("key", *argv)
    assert done.returncode == 0 and b"destroyed at      2023-11-14T22:13:20Z" in done.stdout, done.stderr
    [sent] = [seen for seen in admin.server.seen if seen[0] == method]
    assert sent[1] == target and (json.loads(sent[3]) if sent[3] else None) == body


def test_rewrap_goes_on_until_nothing_is_left(admin):
    left = [250]

    def answer(method, target, body):
        ask = json.loads(body)
        done = min(ask["limit"], left[0])
        if not ask["dry_run"]:
            left[0] -= done
        return 200, JSON, {"rewrapped": done, "left": left[0], "version": 2, "failed": []}

    admin.handlers["/kbs/v0/admin/wrapping-key/rewrap"] = answer
    dry = json.loads(admin.run("wrapping-key", "rewrap", "--dry-run", "--json").stdout)
    assert dry == {"rewrapped": 100, "left": 250, "version": 2, "failed": []}
    done = admin.run("wrapping-key", "rewrap", "--json")
    assert json.loads(done.stdout) == {"rewrapped": 250, "left": 0, "version": 2, "failed": []}
    assert done.stderr.count(b"left") == 3
    assert admin.run("wrapping-key", "destroy").returncode == 2


def test_rewrap_passes_over_what_cannot_be_moved(admin):
    bad = ["a/b/0", "a/b/7", "a/b/9"]  # the oldest keys come first, and they stay
    keys = [f"a/b/{i}" for i in range(10)]

    def answer(method, target, body):
        ask = json.loads(body)
        batch = keys[ask["skip"]:ask["skip"] + ask["limit"]]
        failed = [{"path": path, "version": 1, "reason": "does not open"} for path in batch if path in bad]
        for path in batch:
            if path not in bad:
                keys.remove(path)
        return 200, JSON, {"rewrapped": len(batch) - len(failed), "left": len(keys), "version": 2, "failed": failed}

    admin.handlers["/kbs/v0/admin/wrapping-key/rewrap"] = answer
    done = admin.run("wrapping-key", "rewrap", "--limit", "2", "--json")
    assert done.returncode == 6 and keys == bad
    said = json.loads(done.stdout)
    assert said["rewrapped"] == 7 and said["left"] == 3 and [f["path"] for f in said["failed"]] == bad
    assert b"a/b/7/v1 stays where it is: does not open" in done.stderr and b"3 keys could not be moved" in done.stderr


def test_seal_key(admin):
    target = "/kbs/v0/admin/seal-key"
    answer = {"key": {}, "thumbprint": "A" * 43, "version": 2, "secrets": {"1": 3}}
    for key in (target, target + "/rotate", target + "?version=1"):
        admin.answers[key] = (200, JSON, answer)
    shown = admin.run("seal-key", "show").stdout.decode()
    assert "A" * 43 in shown and "no: " in shown and "3 under version 1" in shown
    assert b"A" * 43 in admin.run("seal-key", "rotate").stdout
    assert admin.run("seal-key", "destroy").returncode == 2
    assert admin.run("seal-key", "destroy", "--version", "1").returncode == 0
    admin.answers[target + "/reseal"] = (200, JSON, {"resealed": 3, "left": 0, "version": 2, "failed": []})
    done = admin.run("seal-key", "reseal", "--json")
    assert json.loads(done.stdout) == {"resealed": 3, "left": 0, "version": 2, "failed": []}
    sent = [json.loads(seen[3]) for seen in admin.server.seen if seen[1] == target + "/reseal"]
    assert sent == [{"limit": 16, "skip": 0, "dry_run": False}]


def test_token_caps(admin):
    cell = {"rung": "transport", "format": "jose", "key": "P-256", "bytes": 32, "result": "passed",
            "locality": "transport", "reason": ""}
    admin.answers["/kbs/v0/admin/token/caps"] = (200, JSON, {
        "token": {"manufacturer": "m", "model": "o", "serial": "s", "class": "software"},
        "cells": [cell, {**cell, "rung": "COSE-HKDF", "result": "failed", "reason": "C_DeriveKey: CKR_MECHANISM_INVALID"}],
        "notes": ["set this"]})
    shown = admin.run("token", "caps").stdout.decode()
    assert "CKR_MECHANISM_INVALID" in shown and "set this" not in shown
    assert "set this" in admin.run("token", "caps", "--explain").stdout.decode()


def test_import_refuses_another_import_key(admin, tmp_path):
    (tmp_path / "key").write_bytes(os.urandom(32))
    admin.import_key = new_key()  # the server says the pinned thumbprint all the same
    done = admin.run("key", "import", "a/b/c", "--key-file", tmp_path / "key")
    assert done.returncode == 3 and b"pinned" in done.stderr
    assert admin.mutations() == []


def test_import_refuses_another_check_value(admin, tmp_path):
    (tmp_path / "key").write_bytes(os.urandom(32))
    admin.answers["/kbs/v0/admin/keys/a/b/c/import"] = (200, JSON, KEY)
    assert admin.run("key", "import", "a/b/c", "--key-file", tmp_path / "key").returncode == 1


@pytest.mark.parametrize("size", [0, 8, 17, 31, 72])
def test_import_refuses_other_sizes(admin, tmp_path, size):
    (tmp_path / "key").write_bytes(os.urandom(size))
    assert admin.run("key", "import", "a/b/c", "--key-file", tmp_path / "key").returncode == 1
    assert admin.server.seen == []


@pytest.mark.parametrize("status, code", [(400, 1), (401, 3), (403, 4), (404, 5), (409, 6), (413, 1), (422, 1), (429, 1),
                                          (500, 1), (501, 9), (503, 7), (302, 1), (201, 1), (204, 1)])
def test_exit_statuses(admin, status, code):
    admin.answers["/kbs/v0/admin/keys"] = error(status, "line\x1b[31m one")
    done = admin.run("key", "list")
    assert done.returncode == code and done.stdout == b""
    if status != 204:
        assert b"\x1b" not in done.stderr and b"one" in done.stderr


def test_network_and_certificates(admin, tmp_path):
    assert admin.run("--url", "https://127.0.0.1:1", "key", "list").returncode == 8
    assert admin.run("--url", admin.server.url.replace("https", "http"), "key", "list").returncode == 1
    (tmp_path / "other").mkdir()
    write_certificate(tmp_path / "other")
    admin.write_profile(ca="other/cert.pem")
    done = admin.run("key", "list")
    assert done.returncode == 3 and admin.server.seen == []
    admin.write_profile(ca="missing.pem")
    assert admin.run("key", "list").returncode == 1
    admin.write_profile(surplus=1)
    assert admin.run("key", "list").returncode == 1


@pytest.mark.parametrize("text", [b"", b"[]", b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":[]', b'{"keys":[],"keys":[]}',
                                  b'{"keys":[{"kid":1}]}', b"TOO LARGE"])
def test_answers_of_another_shape(admin, text):
    if text == b"TOO LARGE":
        text = b'{"keys":"' + b"x" * (4 << 20) + b'"}'
    admin.answers["/kbs/v0/admin/keys"] = (200, JSON, text)
    done = admin.run("key", "list")
    assert done.returncode == 1 and done.stdout == b"" and done.stderr


# ---- kbs-guest and its server


def test_attest_prints_the_token(tmp_path):
    with Stub(Kbs()) as server:
        assert run("kbs-guest", "attest", "--url", server.url).stdout == b"head.body.tail\n"
        assert json.loads(run("kbs-guest", "attest", "--url", server.url, "--json").stdout) == {"token": "head.body.tail"}
        done = run("kbs-guest", "attest", "--url", server.url, "--token-out", tmp_path / "token")
        assert done.returncode == 0 and done.stdout == b""
        assert (tmp_path / "token").read_text() == "head.body.tail"
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_https_and_curves(tmp_path, curve):
    write_certificate(tmp_path)
    with Stub(Kbs(), tls=tmp_path) as server:
        done = run("kbs-guest", "attest", "--url", server.url, "--ca", tmp_path / "cert.pem", "--curve", curve)
        assert done.returncode == 0, done.stderr
        assert run("kbs-guest", "attest", "--url", server.url).returncode == 3, "not in the system's store"


def test_a_401_is_attested_once_more():
    for answers, code, handshakes in (([error(401), error(403)], 4, 2), ([error(401), error(401)], 3, 2),
                                      ([error(404)], 5, 1), ([error(501)], 9, 1)):
        kbs = Kbs(*answers)
        with Stub(kbs) as server:
            done = run("kbs-guest", "get-key", "a/b/c", "--url", server.url)
        assert done.returncode == code and len(kbs.cookies) == handshakes, done.stderr


def test_a_503_is_retried_as_told():
    busy = (503, {**JSON, "Retry-After": "1"}, {"type": "x", "detail": "token down"})
    for answers, code in (([busy, error(404)], 5), ([busy, busy, error(404)], 5), ([busy, busy, busy], 7)):
        kbs = Kbs(*answers)
        with Stub(kbs) as server:
            done = run("kbs-guest", "get-key", "a/b/c", "--url", server.url)
        assert done.returncode == code and kbs.keys == [], done.stderr


def test_the_request_says_what_was_asked():
    nonce, salt = os.urandom(32), os.urandom(64)
    with Stub(Kbs(error(404), error(404), error(404))) as server:
        run("kbs-guest", "get-key", "a/b/c", "--url", server.url, "--nonce", nonce.hex())
        run("kbs-guest", "get-key", "a/b/c", "--url", server.url, "--version", "7", "--context-none", "--cose", "--salt",
            salt.hex())
        run("kbs-guest", "get-key", "a/b/c", "--url", server.url, "--context-none")
        first, second, third = [s for s in server.seen if "/key/" in s[1]]
    assert first[1] == "/kbs/v0/key/a/b/c" and first[2]["Accept"] == "application/jose+json"
    assert json.loads(first[3]) == {"nonce": b64u(nonce)}
    assert second[1] == "/kbs/v0/key/a/b/c?version=7&context=none" and second[2]["Accept"] == "application/cose"
    body = json.loads(second[3])
    assert body["salt"] == b64u(salt) and len(unb64u(body["nonce"])) == 32
    assert third[1] == "/kbs/v0/key/a/b/c?context=none" and json.loads(third[3])["nonce"] != body["nonce"]


@pytest.mark.parametrize("headers, body", [
    ({}, {"nonce": "", "extra-params": ""}), ({}, {"extra-params": ""}), ({}, {"nonce": "x" * 5000}),
    ({"Set-Cookie": "other=1"}, {"nonce": "abcd"}), ({"Set-Cookie": "kbs-session-id=a\"b"}, {"nonce": "abcd"}),
    ({"Set-Cookie": "kbs-session-id=" + "a" * 500}, {"nonce": "abcd"}),
    ({"Set-Cookie": "kbs-session-id=a"}, {"nonce": "abcd", "extra-params": {"selected-hash-algorithm": "md5"}}),
])
def test_challenges_of_another_shape(headers, body):
    with Stub(lambda *_: (200, headers, body)) as server:
        done = run("kbs-guest", "attest", "--url", server.url)
        assert done.returncode == 1 and len(server.seen) == 1, done.stderr


@pytest.mark.parametrize("headers, body", [
    ({"Content-Type": "text/html"}, b"<html>"), ({"Content-Type": "application/jose+jsonx"}, {}),
    ({"Content-Type": "application/jose+json"}, b""), ({"Content-Type": "application/jose+json"}, {"header": {}})])
def test_key_answers_of_another_shape(headers, body):
    with Stub(Kbs((200, headers, body))) as server:
        done = run("kbs-guest", "get-key", "a/b/c", "--url", server.url)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr


def test_redirects_and_proxies_lead_nowhere():
    with Stub(lambda *_: (500, {}, b"")) as elsewhere:
        with Stub(lambda *_: (307, {"Location": elsewhere.url + "/kbs/v0/auth"}, b"")) as server:
            env = {"http_proxy": elsewhere.url, "ALL_PROXY": elsewhere.url}
            assert run("kbs-guest", "attest", "--url", server.url, env=env).returncode == 1
            assert len(server.seen) == 1
        assert elsewhere.seen == []


def test_a_server_that_hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        child = subprocess.Popen([BIN / "kbs-guest", "attest", "--url", f"http://127.0.0.1:{port}"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        s.settimeout(30)
        s.accept()[0].close()
        assert child.wait(60) == 8
        child.stdout.close()
        child.stderr.close()


# ---- manual pages


@pytest.mark.parametrize("program, commands", [("kbs-admin", ADMIN_COMMANDS), ("kbs-guest", GUEST_COMMANDS)])
def test_manual_pages_name_every_option(program, commands):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "man" / f"{program}.1").read_text()
    for command in commands:
        text = run(program, *command, "--help").stdout.decode()
        options = set(re.findall(r"^  --([a-z-]+)", text, re.M)) - {"help", "version"}
        assert command == [] or options
        assert {o for o in options if f"Fl -{o}" not in page} == set(), command
        assert f"Cm {' '.join(command)}" in page
