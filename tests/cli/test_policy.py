"""kbs-admin policy test and explain, for Rego: no service, only kbs-policy and files."""
import json
import os
import pathlib

import pytest

from stub import BIN, run

VECTORS = pathlib.Path(os.environ.get("KBS_VECTORS_DIR", "vectors")) / "rego"
needs_rego = pytest.mark.skipif(not (BIN / "kbs-policy").exists(), reason="kbs-policy is not built")
EVIDENCE = "ear.veraison.annotated-evidence"
POLICY = f"""package policy

default allow := false

allow if {{
\tdata.plugin == "resource"
\tinput.submods.cpu0["{EVIDENCE}"].snp.policy_debug_allowed == 0
}}
"""


def claims(**evidence):
    return {"submods": {"cpu0": {EVIDENCE: evidence}}}


GOOD = claims(snp={"policy_debug_allowed": 0})
DEBUG = claims(snp={"policy_debug_allowed": 1})


@pytest.fixture
def files(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path
    write("p.rego", POLICY)
    write("good.json", GOOD)
    write("debug.json", DEBUG)
    return write


def policy(tmp_path, *argv):
    return run("kbs-admin", *argv, cwd=tmp_path)


@needs_rego
def test_cases(files, tmp_path):
    files("cases.json", {"cases": [
        {"name": "ours", "input": GOOD, "path": "a/b/c", "expect": "allow"},
        {"name": "debug", "input": DEBUG, "path": "a/b/c", "expect": "deny"},
        {"input": GOOD, "data": {"plugin": "other"}, "expect": "deny"}]})
    done = policy(tmp_path, "policy", "test", "p.rego", "--cases", "cases.json")
    assert done.returncode == 0, done
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines[0] == ["CASE", "EXPECTED", "RESULT", "PASSED", "WHY"]
    assert lines[1] == ["ours", "allow", "allow", "yes"]
    assert lines[2] == ["debug", "deny", "deny", "yes", "allow", "is", "false"]
    assert lines[3][:2] == ["case", "3"]
    files("cases.json", {"cases": [{"name": "ours", "input": GOOD, "path": "a/b/c", "expect": "deny"}]})
    done = policy(tmp_path, "--json", "policy", "test", "p.rego", "--cases", "cases.json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["cases"] == [
        {"name": "ours", "expected": "deny", "got": "allow", "why": "", "passed": False}]
    files("cases.json", {"cases": [{"input": GOOD, "path": "a/b/c"}]})
    done = policy(tmp_path, "policy", "test", "p.rego", "--cases", "cases.json")
    assert done.returncode == 1 and b"case 1: " in done.stderr and done.stdout == b""


@needs_rego
def test_one(files, tmp_path):
    for name, expect, status in (("good", "allow", 0), ("good", "deny", 1), ("debug", "deny", 0)):
        done = policy(tmp_path, "policy", "test", "p.rego", "--input", f"{name}.json", "--path", "a/b/c",
                      "--expect", expect)
        assert done.returncode == status, done
    files("data.json", {"plugin": "other"})
    done = policy(tmp_path, "policy", "test", "p.rego", "--input", "good.json", "--data", "data.json",
                  "--expect", "deny")
    assert done.returncode == 0
    done = policy(tmp_path, "policy", "test", "p.rego", "--input", "good.json", "--path", "a/b", "--expect", "deny")
    assert done.returncode == 1 and b"not a path" in done.stderr


@needs_rego
@pytest.mark.parametrize("text, why", [
    ("package policy\nallow if {\n", b"the policy, line 3, column 1: "),
    ("package other\nallow := true\n", b"the package is data.other"),
    ("package policy\nx := 1\n", b"there is no rule allow")])
def test_no_policy(files, tmp_path, text, why):
    files("bad.rego", text)
    done = policy(tmp_path, "policy", "test", "bad.rego", "--input", "good.json", "--path", "a/b/c", "--expect", "deny")
    assert done.returncode == 1 and why in done.stderr, done


@needs_rego
def test_cannot_be_evaluated(files, tmp_path):
    """Denies, as in the service, and says so."""
    files("zero.rego", "package policy\nallow if 1 / input.zero == 1\n")
    files("zero.json", {"zero": 0})
    done = policy(tmp_path, "--json", "policy", "test", "zero.rego", "--input", "zero.json", "--path", "a/b/c",
                  "--expect", "deny")
    case = json.loads(done.stdout)["cases"][0]
    assert done.returncode == 0 and case["got"] == "error" and case["why"].startswith("line 2, column ")
    files("loop.rego", "package policy\nallow if f(1)\nf(x) if f(x + 1)\n")
    done = policy(tmp_path, "--json", "policy", "explain", "loop.rego", "--input", "good.json", "--path", "a/b/c")
    assert done.returncode == 0 and json.loads(done.stdout)["decision"] == "error"


@needs_rego
def test_explain(files, tmp_path):
    files("tdx.json", claims(tdx={}))
    done = policy(tmp_path, "policy", "explain", "p.rego", "--input", "tdx.json", "--path", "a/b/c")
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "decision" in text and "deny" in text
    assert f'line 7: input.submods.cpu0["{EVIDENCE}"].snp.policy_debug_allowed' in text and "data.plugin" not in text
    done = policy(tmp_path, "--json", "policy", "explain", "p.rego", "--input", "good.json", "--path", "a/b/c")
    assert json.loads(done.stdout) == {"decision": "allow", "why": "", "missing": []}


@needs_rego
@pytest.mark.skipif(not VECTORS.is_dir(), reason="the sample policies are not there")
@pytest.mark.parametrize("name, sample, snp", [
    ("allow_all", "allow", "allow"), ("deny_all", "deny", "deny"), ("default", "deny", "allow")])
def test_samples(files, tmp_path, name, sample, snp):
    files("cases.json", {"cases": [{"input": claims(sample={}), "path": "a/b/c", "expect": sample},
                                   {"input": claims(snp={}), "path": "a/b/c", "expect": snp}]})
    done = policy(tmp_path, "policy", "test", VECTORS / f"{name}.rego", "--cases", "cases.json")
    assert done.returncode == 0, done


@pytest.mark.parametrize("argv", [
    ["policy"], ["policy", "set", "resource-policy"], ["policy", "set", "../x", "p.rego"], ["policy", "get"],
    ["policy", "rollback", "resource-policy"], ["policy", "rollback", "resource-policy", "--to", "0"], ["policy", "history"],
    ["policy", "list", "x"], ["policy", "test"], ["policy", "test", "p.rego"], ["policy", "explain", "p.rego"],
    ["policy", "test", "p.rego", "--input", "good.json", "--path", "a/b/c"],
    ["policy", "test", "p.rego", "--input", "good.json", "--path", "a/b/c", "--expect", "maybe"],
    ["policy", "test", "p.rego", "--input", "good.json", "--expect", "deny"],
    ["policy", "test", "p.rego", "--input", "good.json", "--path", "a/b/c", "--data", "x", "--expect", "deny"],
    ["policy", "test", "p.rego", "--cases", "x", "--expect", "deny"],
    ["approve"], ["approve", "abc"], ["approvals"], ["approvals", "show", "0"], ["approvals", "withdraw"]])
def test_wrong_usage(files, tmp_path, argv):
    done = policy(tmp_path, *argv)
    assert done.returncode == 2 and b"usage: kbs-admin" in done.stderr, done
