"""Policies under administration, end to end: by prefix, with history and back, and what two of three administrators
have to agree to. One service for all of it, killed between asking and agreeing."""
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kbsguest import Guest
from service import BIN, ROLES, run
from test_resources import Resources, expect_empty
from test_secrets import get, open_jwe

WAITS = 10  # kbs-admin's status for a request that was put down
ALLOW = "package policy\n\nallow := true\n"
DENY = "package policy\n\nallow := false\n"
KEY = "acme/keys/one"


class Governed:
    """A service with three administrators, of whom two have to agree."""

    def __init__(self, service):
        self.service = service
        folder = service.folder / "admin"
        profile = json.loads((folder / "profile.json").read_text())
        names = ["admin/admin.pub.pem"]
        self.profiles = [folder / "profile.json"]
        for name in ("second", "third"):
            key = ec.generate_private_key(ec.SECP256R1())
            (folder / f"{name}.key.pem").write_bytes(key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            (folder / f"{name}.key.pem").chmod(0o600)
            (folder / f"{name}.pub.pem").write_bytes(key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
            (folder / f"{name}.json").write_text(json.dumps({**profile, "key": f"{name}.key.pem"}))
            self.profiles.append(folder / f"{name}.json")
            names.append(f"admin/{name}.pub.pem")
        service.edit_config(r"^keys = .*$", f"keys = {json.dumps(names)}\napprovals = 2\napprovals_for = [\"policy\", \"destroy\"]")

    def admin(self, who, *argv, status=0):
        done = run(BIN / "kbs-admin", "--profile", self.profiles[who], "--url", self.service.admin_url, *argv, check=False)
        assert done.returncode == status, (argv, done.returncode, done.stdout, done.stderr)
        return done

    def json(self, who, *argv, status=0):
        return json.loads(self.admin(who, "--json", *argv, status=status).stdout)

    def ask(self, *argv, who=0):
        """Asks for something that needs another one; the approval's id."""
        answer = self.json(who, *argv, status=WAITS)
        assert answer["needs"] == 1
        return answer["approval"]

    def do(self, *argv, who=0, by=1):
        return self.json(by, "approve", self.ask(*argv, who=who))["answer"]

    def set(self, name, text):
        file = self.service.folder / "policy.rego"
        file.write_text(text)
        return self.do("policy", "set", name, file)

    def crash(self):
        self.service.kill_all()
        self.service.start()


@pytest.fixture
def governed(make_service):
    g = Governed(make_service("softhsm", lanes=1))
    g.service.start()
    return g


def check_policies(g):
    name = "resource-policy/acme"
    file = g.service.folder / "first.rego"
    file.write_text(DENY)
    waiting = g.ask("policy", "set", name, file)
    shown = g.admin(1, "approvals", "show", waiting).stdout
    assert "allow := false" in shown and "/policies/resource-policy/acme" in shown
    digest = g.json(1, "approvals", "show", waiting)["digest"]
    g.crash()  # what waits, waits on
    assert g.json(2, "approvals", "list")["approvals"][0]["id"] == waiting
    g.admin(0, "approve", waiting, status=6)  # the one who asked
    g.admin(1, "approve", waiting, "--digest", "A" * 43, status=6)
    answer = g.json(1, "approve", waiting, "--digest", digest)
    assert answer["state"] == "executed" and answer["answer"]["policy"] == DENY
    g.admin(2, "approve", waiting, status=6)
    g.set(name, ALLOW)
    assert g.do("policy", "rollback", name, "--to", "1")["policy"] == DENY
    history = g.json(0, "policy", "history", name)["versions"]
    assert [v["version"] for v in history] == [3, 2, 1] and history[0]["digest"] == history[2]["digest"]
    assert len({v["admin"] for v in history}) == 1
    assert g.admin(2, "policy", "get", name, "--version", "2", "--out", "-").stdout == ALLOW
    assert g.json(0, "policy", "list")["policies"][0]["version"] == 3
    records = [r for r in g.service.records("resource-policy-set") if r["phase"] == "intent"]
    assert len(records) == 3 and all(len(set(r["approvers"].split())) == 2 for r in records)


def check_prefixes(g):
    """The default allows, the tenant's denies, a type of the tenant's allows, one of those denies: each decides alone."""
    admin = Resources(g.service)
    paths = ("other/a/b", "acme/a/b", "acme/open/b", "acme/open/shut")
    for path in paths:
        expect_empty(admin.put(path, path.encode()))
    guest = Guest(g.service.guest_url, g.service.ca).handshake()
    g.set("resource-policy", ALLOW)
    g.set("resource-policy/acme/open", ALLOW)
    g.set("resource-policy/acme/open/shut", DENY)
    assert [get(guest, p).status for p in paths] == [200, 403, 200, 403]
    assert open_jwe(guest, get(guest, "acme/open/b").json()) == b"acme/open/b"
    assert g.do("policy", "remove", "resource-policy/acme/open/shut")["policy"] == ""
    assert get(guest, "acme/open/shut").status == 200
    refused = [r["resource_policy_name"] for r in g.service.records("release-denied")]
    assert refused == ["resource-policy/acme", "resource-policy/acme/open/shut"]
    # a text that is none is refused when it is asked for, and nothing waits for it
    file = g.service.folder / "broken.rego"
    file.write_text("package policy\n\nallow if {\n")
    assert "line 4, column 1" in g.admin(0, "policy", "set", "resource-policy", file, status=1).stderr
    admin.close()


def check_destruction(g):
    g.service.generate(KEY)
    guest = Guest(g.service.guest_url, g.service.ca).handshake()
    waiting = g.ask("key", "destroy", KEY, "--after", "0", who=2)
    assert guest.get_key(KEY).status == 200
    g.crash()
    assert g.json(0, "approve", waiting)["answer"]["state"] == "destroyed"
    guest = Guest(g.service.guest_url, g.service.ca).handshake()
    assert guest.get_key(KEY).status == 404
    changes = g.json(0, "policy", "history", KEY, "--ledger", g.service.ledger_path)["changes"]
    assert [(c["kind"], c["version"]) for c in changes] == [("key-generate", "1")]
    changes = g.json(0, "policy", "history", "resource-policy/acme", "--ledger", g.service.ledger_path)["changes"]
    assert [c["version"] for c in changes] == ["1", "2", "3"] and changes[0]["digest"] == changes[2]["digest"]
    assert all(len(c["approvers"].split()) == 2 for c in changes)
    # what is changed meanwhile is not destroyed by what was asked for before
    g.service.generate("acme/keys/two")
    waiting = g.ask("key", "destroy", "acme/keys/two")
    g.admin(1, "key", "disable", "acme/keys/two")
    assert "changed since" in g.admin(1, "approve", waiting, status=6).stderr
    g.admin(2, "approvals", "withdraw", waiting)
    assert "withdrawn" in g.admin(1, "approve", waiting, status=6).stderr


def test_two_of_three(governed):
    check_policies(governed)
    if "kbs-policy" in ROLES:
        check_prefixes(governed)
    check_destruction(governed)
    run(BIN / "kbs-admin", "audit", "verify", governed.service.ledger_path, "--head-key",
        governed.service.folder / "admin" / "head.pub.pem")
