"""kbs-admin policy explain and test, offline; and release dry-run: what it asks, and what it makes of the answer."""
import json

import pytest

from doubles import JSON
from stub import run

POLICY = {"version": "1.0.0", "anyOf": [
    {"allOf": [{"claim": "kbs.tee", "in": ["snp", "tdx"]}, {"claim": "svn", "at-least": 3}]},
    {"authority": "https://maa", "allOf": [{"claim": "x-ms-isolation-tee.x-ms-attestation-type", "equals": "sevsnpvm"}]}]}
TARGET = "/kbs/v0/admin/release/dry-run"


@pytest.fixture
def files(tmp_path):
    def write(name, value):
        (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
        return tmp_path / name
    write("policy", POLICY)
    write("claims", {"svn": 3})
    write("kbs", {"tee": "snp"})
    return write


def decide(tmp_path, *options, expect="allow"):
    return run("kbs-admin", "policy", "test", tmp_path / "policy", "--claims", tmp_path / "claims", "--expect", expect, *options)


def test_policy_test(files, tmp_path):
    kbs = ("--kbs", tmp_path / "kbs")
    assert decide(tmp_path, *kbs).returncode == 0
    failed = decide(tmp_path, *kbs, expect="deny")
    assert failed.returncode == 1 and b"expected deny" in failed.stderr and failed.stdout.startswith(b"allow\n")
    assert decide(tmp_path, expect="deny").returncode == 0
    assert decide(tmp_path, expect="maybe").returncode == 2
    files("claims", {"x-ms-isolation-tee": {"x-ms-attestation-type": "sevsnpvm"}})
    assert decide(tmp_path, expect="deny").returncode == 0
    assert decide(tmp_path, "--authority", "https://maa").returncode == 0
    assert decide(tmp_path, "--authority", "https://maa/", expect="deny").returncode == 0
    files("policy", {**POLICY, "anyOf": []})
    broken = decide(tmp_path, expect="deny")
    assert broken.returncode == 1 and b"anyOf" in broken.stderr


def test_policy_test_of_another_issuers_guest(files, tmp_path):
    """Claims as our token has them of a guest that somebody else vouched for."""
    files("claims", {"iss": "kbs", "submods": {"cpu0": {
        "ear.kbs-hsm.authority": "https://maa", "ear.kbs-hsm.claims-at": "snp",
        "ear.veraison.annotated-evidence": {"snp": {"x-ms-isolation-tee": {"x-ms-attestation-type": "sevsnpvm"}}}}}})
    assert decide(tmp_path).returncode == 0


def test_policy_explain(files, tmp_path):
    files("claims", {"svn": 2, "x\x1b": 1})
    explain = ("policy", "explain", "--policy", tmp_path / "policy", "--claims", tmp_path / "claims", "--kbs", tmp_path / "kbs")
    done = run("kbs-admin", *explain)
    assert done.returncode == 0
    assert done.stdout.decode() == """\
deny: policy: anyOf[0] svn is too low; anyOf[1] authority differs
  false   anyOf
  false     allOf
  true        kbs.tee in ["snp","tdx"]
> false       svn at-least 3: is too low, it is 2
> false     allOf of authority "https://maa": another authority
"""
    assert json.loads(run("kbs-admin", "--json", *explain).stdout)["decision"] == "deny"
    assert run("kbs-admin", *explain[:4]).returncode == 2


def test_release_dry_run(admin, files, tmp_path):
    explained = {"test": "anyOf", "result": "true", "of": [
        {"test": "equals", "claim": "kbs.tee", "wanted": "snp", "found": "snp", "result": "true", "decides": True}]}
    answer = {"decision": "allow", "by": "release-policy", "reason": "", "kid": "a/b/c/v1", "policy": "00", "resource_policy": None,
              "rung": {"name": "JOSE-chain", "format": "jose", "locality": "token"}, "explained": explained}
    admin.answers[TARGET] = (200, JSON, answer)
    done = admin.run("release", "dry-run", "a/b/c", "--claims", tmp_path / "claims", "--kbs", tmp_path / "kbs", "--version", "1",
                     "--format", "jose", "--tee-key", "P-384")
    assert done.returncode == 0, done.stderr
    assert b"locality          token\n" in done.stdout and b'kbs.tee equals "snp"\n' in done.stdout
    admin.run("release", "dry-run", "--resource", "a/b/c", "--session", "00" * 16)
    admin.run("release", "dry-run", "a/b/c", "--token", files("jwt", "x.y.z\n"))
    assert [json.loads(seen[3]) for seen in admin.server.seen if seen[1] == TARGET] == [
        {"as": "key", "path": "a/b/c", "format": "jose", "tee_key": "P-384", "version": 1, "claims": {"svn": 3}, "kbs": {"tee": "snp"}},
        {"as": "resource", "path": "a/b/c", "session": "00" * 16},
        {"as": "key", "path": "a/b/c", "token": "x.y.z"}]


@pytest.mark.parametrize("decision, status", [("allow", 0), ("deny", 4), ("unsupported", 9), ("what", 4)])
def test_release_dry_run_status(admin, decision, status):
    admin.answers[TARGET] = (200, JSON, {"decision": decision, "reason": "because\x1b[2J", "rung": None})
    done = admin.run("release", "dry-run", "a/b/c", "--session", "00" * 16)
    assert done.returncode == status and b"because?[2J" in done.stdout


@pytest.mark.parametrize("argv", [
    [], ["a/b/c"], ["a/b/c", "--resource", "a/b/c", "--session", "00"], ["--session", "00"],
    ["a/b/c", "--session", "00", "--token", "file"]])
def test_release_dry_run_usage(argv):
    assert run("kbs-admin", "release", "dry-run", *argv).returncode == 2
