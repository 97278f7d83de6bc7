"""kbs-admin key show: a row is put together again here, signed, and shown by a server that lies about the rest."""
import hashlib
import json
import struct

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from doubles import JSON
from stub import b64u, new_key

POLICY = {"anyOf": [{"claim": "kbs.tee", "equals": "sample"}]}
KEY_ID, REQUEST, KCV = b"\1" * 16, b"\2" * 32, bytes.fromhex("01020304")


def text(raw):
    return struct.pack(">I", len(raw)) + raw


def card(path, version):
    """docs/protocol/key-cards.md: a resident AES key of 32 bytes."""
    kid = hashlib.sha256(f"{path}/v{version}".encode()).digest()
    return (b"KBSC" + bytes([1, 1, 1, 1, 2, 1, 0, 20]) + KEY_ID + struct.pack(">IIIQ", version, 32, 0, 1700000000) + kid
            + hashlib.sha256(json.dumps(POLICY, separators=(",", ":")).encode()).digest() + bytes(32)
            + (KEY_ID + struct.pack(">I", version)).ljust(32, b"\0") + b"\3" * 32)


def signed_key(row_key, path, version):
    """docs/protocol/store-rows.md"""
    policy = json.dumps(POLICY, separators=(",", ":")).encode()
    content = (bytes([2]) + text(b"key") + text(path.encode()) + struct.pack(">IQ", version, 7) + KEY_ID + bytes([1, 1, 1])
               + struct.pack(">I", 32) + KCV + bytes(8) + REQUEST + text(card(path, version)) + text(policy))
    r, s = utils.decode_dss_signature(row_key.sign(b"kbs-row-v1" + content, ec.ECDSA(hashes.SHA256())))
    return {"path": path, "version": version, "kid": f"{path}/v{version}", "purpose": "release",
            "provenance": "generated", "alg": "AES", "bytes": 32, "class": "resident", "state": "enabled",
            "floor": "transport", "kcv": KCV.hex(), "kcv_mac": "HMAC-SHA-256", "wrapping_key": None,
            "destroy_at": None, "created": 1700000000, "newest": version, "policy": POLICY,
            "row": {"id": KEY_ID.hex(), "epoch": 7, "request": REQUEST.hex(), "card": b64u(card(path, version)),
                    "signature": b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))}}


@pytest.fixture
def pinned(admin):
    admin.row_key = new_key()
    (admin.folder / "row.pub.pem").write_bytes(admin.row_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    admin.write_profile(row_key="row.pub.pem")
    return admin


def show(admin, answer, *argv, target="/kbs/v0/admin/keys/a/b/c"):
    admin.answers[target] = (200, JSON, answer)
    return admin.run("key", "show", "a/b/c", *argv)


def test_a_row_that_is_signed(pinned):
    key = signed_key(pinned.row_key, "a/b/c", 2)
    done = show(pinned, key)
    assert done.returncode == 0 and b"signed as shown" in done.stdout, done.stderr
    assert json.loads(show(pinned, key, "--json").stdout)["verified"] is True
    done = show(pinned, key, "--version", "2", target="/kbs/v0/admin/keys/a/b/c?version=2")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("change", [
    {"version": 3}, {"kid": "a/b/other/v2"}, {"policy": None}, {"floor": "worker"}, {"state": "disabled"},
    {"bytes": 16}, {"created": 1}, {"destroy_at": 5}, {"class": "wrapped"}, {"kcv": "ffffffff"}, {"wrapping_key": 1}])
def test_nothing_else_is_shown(pinned, change):
    done = show(pinned, {**signed_key(pinned.row_key, "a/b/c", 2), **change})
    assert done.returncode != 0 and done.stdout == b"", change


def test_a_genuine_row_of_another_key(pinned):
    done = show(pinned, signed_key(pinned.row_key, "a/b/strict", 2))
    assert done.returncode != 0 and done.stdout == b"" and b"another key" in done.stderr
    done = show(pinned, signed_key(pinned.row_key, "a/b/c", 1), "--version", "2",
                target="/kbs/v0/admin/keys/a/b/c?version=2")
    assert done.returncode != 0 and done.stdout == b"" and b"another key" in done.stderr
