"""kbsd --print-config: what tools on the server's host are told, against the file read by a TOML reader of its own."""
import json
import os
import pathlib
import subprocess
import tomllib

import pytest

KBSD = pathlib.Path(os.environ["KBS_BIN_DIR"]) / "kbsd"
CONFIG = """
[profile]
mode = "demo"
[http_server]
sockets = ["127.0.0.1:8080", "[::1]:8080"]
plain_sockets = ["unix:run/guest.sock"]
private_key = "pkcs11:object=a%20key"
certificate = "tls/guest.pem"
[admin_server]
sockets = ["127.0.0.1:8081"]
private_key = "tls/key.pem"
certificate = "tls/admin.pem"
client_ca = "tls/clients.pem"
tls_profile = "custom"
tls_groups = "X25519"
[admin]
keys = ["admin.pub.pem"]
[token]
module = "module.so"
uri = "pkcs11:token=kbs"
pin_file = "pin"
init_args = "a=\\"b\\""
env = ["A=1", "B=x y"]
folders = ["token"]
lanes = 3
[store]
path = "store/store.db"
[audit]
path = "audit.log"
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("tls", "token", "store", "run"):
        (tmp_path / name).mkdir()
    for name in ("tls/guest.pem", "tls/admin.pem", "tls/clients.pem"):
        (tmp_path / name).write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "admin.pub.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    for name in ("tls/key.pem", "pin", "module.so"):
        (tmp_path / name).write_text("never-repeat-this")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "kbs.toml").write_text(CONFIG)
    return tmp_path


def kbsd(*argv, cwd, **environment):
    done = subprocess.run([KBSD, *argv], cwd=cwd, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert "never-repeat-this" not in done.stdout + done.stderr
    return done


@pytest.mark.parametrize("relative", [True, False])
def test_all_of_it(folder, relative):
    done = kbsd("-c", "kbs.toml" if relative else folder / "kbs.toml", "--print-config", cwd=folder if relative else "/")
    assert done.returncode == 0, done.stderr
    file = tomllib.loads((folder / "kbs.toml").read_text())
    token = file["token"]
    of_tls = {"min_version": "1.3", "max_version": "1.3", "ciphers": "", "groups": ""}
    printed = json.loads(done.stdout)
    admin_tls = printed["admin_server"].pop("tls")
    assert (admin_tls["min_version"], admin_tls["max_version"], admin_tls["groups"]) == ("1.2", "1.3", "X25519")
    assert "ECDHE" in admin_tls["ciphers"]
    assert printed == {
        "file": f"{folder}/kbs.toml",
        "profile": {"mode": "demo"},
        "http_server": {"sockets": file["http_server"]["sockets"], "plain_sockets": [f"unix:{folder}/run/guest.sock"],
                        "private_key": None, "key_uri": "pkcs11:object=a%20key", "certificate": f"{folder}/tls/guest.pem",
                        "client_ca": None, "tls": of_tls},
        "admin_server": {"sockets": ["127.0.0.1:8081"], "plain_sockets": [], "private_key": f"{folder}/tls/key.pem",
                         "key_uri": None, "certificate": f"{folder}/tls/admin.pem", "client_ca": f"{folder}/tls/clients.pem"},
        "token": {"module": f"{folder}/module.so", "uri": token["uri"], "pin_file": f"{folder}/pin", "pin_credential": False,
                  "lock_file": f"{folder}/token.lock", "init_args": 'a="b"', "env": token["env"],
                  "folders": [f"{folder}/token"], "seccomp": "kill", "lanes": 3},
        "store": {"path": f"{folder}/store/store.db"},
        "audit": {"path": f"{folder}/audit.log"},
    }


def test_a_listener_without_tls(folder):
    text = CONFIG.replace('sockets = ["127.0.0.1:8080", "[::1]:8080"]\n', "sockets = []\n", 1)
    (folder / "kbs.toml").write_text(text)
    done = kbsd("-c", "kbs.toml", "--print-config", cwd=folder)
    assert done.returncode == 0 and json.loads(done.stdout)["http_server"]["tls"] is None, done


def test_a_credential(folder):
    credentials = folder / "credentials"
    credentials.mkdir()
    (folder / "pin").rename(credentials / "the-pin")
    (folder / "kbs.toml").write_text(CONFIG.replace('pin_file = "pin"', 'pin_file = "credential:the-pin"'))
    done = kbsd("-c", "kbs.toml", "--print-config", cwd=folder, CREDENTIALS_DIRECTORY=str(credentials))
    token = json.loads(done.stdout)["token"]
    assert token["pin_credential"] and token["pin_file"] == f"{credentials}/the-pin"
    assert token["lock_file"] == f"{folder}/token.lock"  # beside the ledger


def test_a_certificate_that_is_not_there_yet(folder):
    (folder / "tls/guest.pem").unlink()
    assert kbsd("-c", "kbs.toml", "--check-config", cwd=folder).returncode == 2
    done = kbsd("-c", "kbs.toml", "--print-config", cwd=folder)
    assert done.returncode == 0 and "certificate: is not there yet" in done.stderr
    assert json.loads(done.stdout)["http_server"]["certificate"] == f"{folder}/tls/guest.pem"
    (folder / "tls/clients.pem").unlink()  # of others than us
    done = kbsd("-c", "kbs.toml", "--print-config", cwd=folder)
    assert done.returncode == 2 and done.stdout == ""


@pytest.mark.parametrize("broken", ["[nonsense]\n", "lanes = 0\n", "[["])
def test_nothing_of_what_is_wrong(folder, broken):
    (folder / "kbs.toml").write_text(broken + CONFIG)
    done = kbsd("-c", "kbs.toml", "--print-config", cwd=folder)
    assert done.returncode == 2 and done.stdout == "" and "kbs.toml:" in done.stderr


def test_a_full_disk_is_not_success(folder):
    with open("/dev/full", "wb") as full:
        status = subprocess.run([KBSD, "-c", "kbs.toml", "--print-config"], cwd=folder, stdout=full, timeout=60,
                                stderr=subprocess.DEVNULL).returncode
    assert status == 2
