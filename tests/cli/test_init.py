"""kbs-admin init on both tokens: all of a service or nothing. Starts the real kbs-token."""
import fcntl
import json
import os
import pathlib
import re
import subprocess
import tomllib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stub import BIN, run, thumbprint

TOKENS = ["softhsm", "nss"]
PRIVATE = ["pin", "tls/key.pem", "admin/admin.key.pem", "kbs.toml", "admin/profile.json"]


def init(folder, token, *options):
    return run("kbs-admin", "init", folder, "--token", token, *options)


@pytest.fixture(params=TOKENS)
def made(request, tmp_path):
    folder = tmp_path / "a service"
    done = init(folder, request.param, "--listen", "192.0.2.7:8443", "--admin-listen", "[::]:9000", "--lanes", "3")
    assert done.returncode == 0, done.stderr
    return folder, request.param, done


def test_what_is_made(made):
    folder, token, done = made
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in PRIVATE + (["so-pin"] if token == "softhsm" else []):
        assert (folder / name).stat().st_mode & 0o777 == 0o600, name
    pin = (folder / "pin").read_text()
    assert re.fullmatch("[0-9a-f]{32}\n", pin)
    assert pin.strip().encode() not in done.stdout + done.stderr
    profile = json.loads((folder / "admin/profile.json").read_text())
    assert profile["url"] == "https://[::1]:9000"
    assert re.fullmatch("[A-Za-z0-9_-]{43}", profile["import_key"])
    assert profile["import_key"] in done.stdout.decode() and f"kbsd -c '{folder}/kbs.toml'" in done.stdout.decode()
    admin = folder / "admin" / profile["key"]
    private = serialization.load_pem_private_key(admin.read_bytes(), None)
    public = serialization.load_pem_public_key((folder / "admin/admin.pub.pem").read_bytes())
    assert thumbprint(private.public_key()) == thumbprint(public)
    config = (folder / "kbs.toml").read_text()
    assert "lanes = 3\n" in config and 'mode = "demo"' in config and "allow_sample = true" in config
    assert f"{folder}/token" in config


def test_the_certificate(made):
    folder, _, _ = made
    cert = x509.load_pem_x509_certificate((folder / "tls/cert.pem").read_bytes())
    key = serialization.load_pem_private_key((folder / "tls/key.pem").read_bytes(), None)
    assert thumbprint(cert.public_key()) == thumbprint(key.public_key())
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(a) for a in san.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "192.0.2.7"}
    assert san.get_values_for_type(x509.DNSName) == ["localhost"]
    constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca


@pytest.mark.parametrize("token", TOKENS)
def test_a_tls_key_in_the_token(tmp_path, token):
    done = init(tmp_path / "s", token, "--tls-key", "token")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "s/tls").iterdir()] == ["cert.pem"]
    config = tomllib.loads((tmp_path / "s/kbs.toml").read_text())
    for server in ("http_server", "admin_server"):
        assert config[server]["private_key"] == "pkcs11:" and config[server]["certificate"] == "tls/cert.pem"
    cert = x509.load_pem_x509_certificate((tmp_path / "s/tls/cert.pem").read_bytes())
    cert.public_key().verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(cert.signature_hash_algorithm))
    for file in (tmp_path / "s").rglob("*"):  # nowhere but in the token, where it is not in the clear
        assert not file.is_file() or file.name == "admin.key.pem" or b"PRIVATE KEY" not in file.read_bytes(), file
    assert run("kbsd", "-c", tmp_path / "s/kbs.toml", "--check-config").returncode == 0
    shown = run("kbs-admin", "tls", "show", "--json", "--config-file", tmp_path / "s/kbs.toml")
    assert shown.returncode == 0 and json.loads(shown.stdout)["key"] == {"where": "token", "uri": "pkcs11:", "state": "matches"}


def test_kbsd_accepts_the_configuration(made):
    folder, _, _ = made
    if not (BIN / "kbsd").exists():
        pytest.skip("kbsd is not built")
    done = run("kbsd", "-c", folder / "kbs.toml", "--check-config")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("token", TOKENS)
def test_json_and_production(tmp_path, token):
    done = init(tmp_path, token, "--production", "--json")  # an empty folder will do
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["profile"] == str(tmp_path / "admin/profile.json") and made["rungs"]
    config = (tmp_path / "kbs.toml").read_text()
    assert 'mode = "production"' in config and "allow_sample = false" in config


def test_each_service_has_its_own_secrets(tmp_path):
    for name in "ab":
        assert init(tmp_path / name, "softhsm").returncode == 0
    for name in ["pin", "so-pin", "tls/key.pem", "admin/admin.key.pem", "admin/profile.json"]:
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes(), name


def test_what_is_there_is_left_alone(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    done = init(tmp_path / "there", "softhsm")
    assert done.returncode == 6 and done.stdout == b""
    assert [p.name for p in (tmp_path / "there").iterdir()] == ["file"]
    (tmp_path / "plain").write_text("mine")
    assert init(tmp_path / "plain", "softhsm").returncode == 1
    assert (tmp_path / "plain").read_text() == "mine"


def test_two_at_once_do_not_undo_each_other(tmp_path):
    """An init that has just begun in an empty folder holds its lock; a second one touches nothing."""
    folder = tmp_path / "there"
    folder.mkdir(mode=0o755)
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = init(folder, "softhsm")
    os.close(lock)
    assert done.returncode == 6 and b"another init" in done.stderr, done
    assert folder.stat().st_mode & 0o777 == 0o755 and list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["it's", 'quo"te', "ha#sh", "back\\slash", "equals=", "line\nfeed"])
def test_names_that_the_token_would_misread(tmp_path, name):
    assert init(tmp_path / name, "softhsm").returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path):
    """A module that is none, in a folder that did not exist and in one that did."""
    (tmp_path / "module.so").write_bytes(b"not a module")
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        done = init(tmp_path / name, "softhsm", "--module", tmp_path / "module.so")
        assert done.returncode == 7 and done.stdout == b"" and done.stderr, done
    assert sorted(p.name for p in tmp_path.iterdir()) == ["module.so", "there"]
    assert list((tmp_path / "there").iterdir()) == []
    assert init(tmp_path / "new", "softhsm", "--module", tmp_path / "missing.so").returncode == 1
    assert init(tmp_path / "missing" / "new", "softhsm").returncode == 1
    assert not (tmp_path / "new").exists()


def test_an_interrupt_leaves_nothing(tmp_path):
    """SIGTERM while kbs-token holds things up: a kbs-token that says nothing and ends when it is told to."""
    bin = tmp_path / "bin"
    bin.mkdir()
    admin = bin / "kbs-admin"
    admin.write_bytes((BIN / "kbs-admin").read_bytes())
    admin.chmod(0o755)
    token = bin / "kbs-token"
    token.write_text("#!/bin/sh\necho started > \"$KBS_TEST_STARTED\"\nread -r line < \"$KBS_TEST_GO\"\nexit 1\n")
    token.chmod(0o755)
    started, go = tmp_path / "started", tmp_path / "go"
    os.mkfifo(started)
    os.mkfifo(go)
    child = subprocess.Popen([admin, "init", tmp_path / "new"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             env={**os.environ, "KBS_TEST_STARTED": str(started), "KBS_TEST_GO": str(go),
                                  "ASAN_OPTIONS": "detect_leaks=0"})
    assert started.read_text() == "started\n"
    assert (tmp_path / "new" / "pin").exists() and not (tmp_path / "new" / "kbs.toml").exists()
    child.terminate()
    go.write_text("go\n")
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == -15, stderr
    assert not (tmp_path / "new").exists()
