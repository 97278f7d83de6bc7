"""Configurations as operators of Trustee's KBS have them: one of each shape of its samples, and every name it knows.

In tests/config/trustee each line says in a comment what kbsd has to say about it ("error: TEXT" or "warning: TEXT", " | "
between two), and the last one which tables miss something. Nothing else may be said, and no secret repeated. The same in
JSON says the same, with pointers for lines. What the operator ends up with, written by hand, is accepted."""
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

KBSD = Path(os.environ["KBS_BIN_DIR"]) / "kbsd"
SAMPLES = sorted(Path(__file__).with_name("trustee").glob("*.toml"))
SECRET = "never-repeat-this"


def check(file, *options, **environment):
    """(exit status, [(place, "error" or "warning", text)])"""
    done = subprocess.run([KBSD, "-c", file.name, "--check-config", *options], cwd=file.parent, capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=60)
    assert done.returncode in (0, 2), done.stderr
    assert SECRET not in done.stderr
    found = []
    for line in done.stderr.splitlines():
        match = re.fullmatch(rf"kbsd: (warning: )?{re.escape(file.name)}:(\d+:\d+|/\S*?)?:? (.*)", line)
        assert match, line
        if match[3] != "no errors":
            found.append((match[2] or "", "warning" if match[1] else "error", match[3]))
    assert (done.returncode == 2) == any(kind == "error" for _, kind, _ in found)
    return done.returncode, found


def expected(file):
    """[(line, kind, text)] and the tables that miss something."""
    lines = file.read_text().splitlines()
    said = []
    for number, line in enumerate(lines, 1):
        if match := re.search(r"  # (error|warning): (.*)$", line):
            said += [(number, match[1], text) for text in match[2].split(" | ")]
    return said, lines[-1].removeprefix("# missing: ").split()


def missing(found):
    """What is said about no line: the tables, in the words of expected()."""
    tables = set()
    for _, kind, text in found:
        assert kind == "error"
        if match := re.search(r"missing in table \[(\w+)\]", text):
            tables.add(match[1])
        elif "both empty" in text:
            tables.add("sockets")
        else:
            assert text == "store.path: its folder does not exist"
    return tables


def test_there_are_all():
    assert len(SAMPLES) == 16


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_each_difference_is_named(file):
    said, tables = expected(file)
    status, found = check(file)
    assert status == 2
    placed = [(int(place.split(":")[0]), kind, text) for place, kind, text in found if place]
    assert [entry[:2] for entry in placed] == sorted(entry[:2] for entry in said), placed
    for line, kind, text in said:
        assert any(text in other[2] for other in placed if other[:2] == (line, kind)), (line, kind, text, placed)
    assert missing([entry for entry in found if not entry[0]]) == set(tables)


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.stem)
def test_json_says_the_same(file, tmp_path):
    tree = tomllib.loads(file.read_text())
    (tmp_path / "kbs.json").write_text(json.dumps(tree))
    _, as_toml = check(file)
    _, as_json = check(tmp_path / "kbs.json")
    assert sorted(entry[1:] for entry in as_json) == sorted(entry[1:] for entry in as_toml)
    for pointer, _, text in as_json:
        node = tree
        for token in pointer.split("/")[1:]:
            node = node[int(token)] if isinstance(node, list) else node[token]
        if match := re.match(r"([\w.\[\]]+?)(:| is ignored)", text):  # the text names the key that the pointer points to
            last = [token for token in pointer.split("/") if token and not token.isdigit()]
            assert not last or match[1].split(".")[-1] in last or match[1] in ("private_key", "certificate"), (pointer, text)


CONVERTED = """
[profile]
mode = "demo"

[http_server]
sockets = ["127.0.0.1:8080"]
private_key = "work/https.key"
certificate = "work/https.crt"
insecure_http = false

[admin_server]
sockets = ["127.0.0.1:8081"]
private_key = "work/https.key"
certificate = "work/https.crt"

[admin]
keys = ["work/kbs.pem"]
trustee_compat = true
authorization_mode = "AuthenticatedAuthorization"

[admin.authentication.bearer_jwt]
identity_providers = [{ issuer = "issuer", audience = "kbs", public_key_uri = "file://%(folder)s/work/kbs.pem" }]

[admin.authorization.regex_acl]
acls = [{ role = "admin", allowed_endpoints = "^/kbs/.+$" }]

[token]
module = "module.so"
uri = "pkcs11:token=kbs"
pin_file = "pin"

[audit]
path = "audit.log"

[attestation_token]
duration_min = 5

[storage_backend]
storage_type = "LocalFs"

[[plugins]]
name = "resource"
storage_backend_type = "kvstorage"
policy = "policy.json"
"""


@pytest.fixture
def converted(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "work/https.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "work/kbs.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    (tmp_path / "policy.json").write_text("{}")
    for name in ("work/https.key", "module.so", "pin"):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "kbs.toml").write_text(CONVERTED % {"folder": tmp_path})
    return tmp_path / "kbs.toml"


def test_what_it_becomes_is_accepted(converted):
    status, found = check(converted)
    assert status == 0, found
    assert [kind for _, kind, _ in found] == ["warning"] * 3  # trustee_compat, storage_type, storage_backend_type
    as_json = converted.with_suffix(".json")
    as_json.write_text(json.dumps(tomllib.loads(converted.read_text())))
    status, found = check(as_json)
    assert status == 0 and len(found) == 3, found


def test_where_the_file_is_told(converted):
    def run(*arguments, **environment):
        return subprocess.run([KBSD, *arguments], capture_output=True, text=True, timeout=60,
                              env={**os.environ, **environment})
    for arguments, environment in ((["--config-file", converted], {}), (["--config", converted], {}),
                                   ([], {"KBS_CONFIG_FILE": str(converted)}),
                                   (["-c", converted], {"KBS_CONFIG_FILE": "/nowhere"})):
        for option in ("--check-config", "--check"):
            assert run(*arguments, option, **environment).returncode == 0, arguments
    assert run("--check-config").returncode == 2 and "usage" in run("--check-config").stderr
    done = run("-c", "/nowhere/kbs.toml", "--check-config")
    assert done.returncode == 2 and "cannot be opened" in done.stderr
    assert run("-c", "/nowhere/kbs.toml").returncode == 79  # as a role's: not to be restarted
