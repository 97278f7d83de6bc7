"""ci/tls-scan's own judgement: what it must not let pass."""
import json
import pathlib

import pytest

import scan

EXPLAINED = scan.read_list(scan.HERE / "explained.txt", {"explained": (4, 4), "offered": (4, 4)})
FUZZER = scan.read_list(scan.HERE / "tlsfuzzer.txt", {"run": (1, 2), "explained": (3, 3), "skip": (2, 2)})
OFFERED = {"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "not offered",
           "TLS1_3": "offered with final", "PFS_ECDHE_curves": "prime256v1 secp384r1 X25519 ", "ALPN": "http/1.1",
           "sessionresumption_ticket": "not supported", "sessionresumption_ID": "No Session ID, no resumption",
           "OCSP_stapling": "not offered"}


def judged(changes=(), findings=(), profile="modern"):
    said = {**OFFERED, **dict(changes)}
    table = scan.Table()
    scan.judge_testssl([{"id": name, "severity": "INFO", "finding": text} for name, text in said.items() if text is not None]
                       + [{"id": name, "severity": severity, "finding": text} for name, severity, text in findings],
                       EXPLAINED, profile, "guest", table)
    return [row for row in table.rows if row[-1] == "NOT EXPLAINED"]


def test_what_is_explained_passes():
    assert judged() == []
    assert judged(findings=[("HSTS", "LOW", "not offered"), ("cert_chain_of_trust", "CRITICAL", "failed (self signed).")]) == []


@pytest.mark.parametrize("finding", [("heartbleed", "CRITICAL", "VULNERABLE"), ("HSTS", "LOW", "4 days"),
                                     ("cert_chain_of_trust", "CRITICAL", "failed (expired)."), ("new", "WARN", "?")])
def test_a_finding_without_a_reason_does_not(finding):
    assert len(judged(findings=[finding])) == 1


@pytest.mark.parametrize("name,text", [("DH_groups", "ffdhe2048 ffdhe8192"), ("TLS1_2", "offered"), ("TLS1_3", None),
                                       ("PFS_ECDHE_curves", "prime256v1 X448"), ("sessionresumption_ticket", "supported")])
def test_what_is_offered_beyond_the_list_does_not(name, text):
    """testssl.sh gives all of these a good mark."""
    assert [row[2] for row in judged(changes={name: text})] == [name]


def test_profiles_differ():
    assert judged(changes={"TLS1_2": "offered"}, profile="intermediate") == []
    assert judged(profile="old") != []


def test_a_scan_that_broke_off_is_no_scan(tmp_path, monkeypatch):
    fake = tmp_path / "testssl"
    monkeypatch.setenv("TESTSSL", str(fake))
    fake.write_text("exit 0\n")
    with pytest.raises(RuntimeError, match="before its end"):
        scan.run_testssl("https://127.0.0.1:1", tmp_path)
    whole = json.dumps([{"id": "scanTime", "severity": "INFO", "finding": "1"}])
    fake.write_text(f"""while [ "$1" != --jsonfile ]; do shift; done; echo '{whole}' >"$2"; exit "${{RESULT:-0}}"\n""")
    assert len(scan.run_testssl("https://127.0.0.1:1", tmp_path)) == 1
    monkeypatch.setenv("RESULT", "245")
    with pytest.raises(RuntimeError):
        scan.run_testssl("https://127.0.0.1:1", tmp_path)


NEW = """sanity ...
OK

Test end
====================
TOTAL: 3
FAIL: 2
====================
FAILED:
\t'padding - cipher TLS_AES_128_GCM_SHA256, pad_byte 0'
\t"it's broken"
"""
OLD = "Test end\nsuccessful: 1\nfailed: 1\n  'sanity'\n"


def test_failed_probes_are_read():
    assert scan.failed_probes(NEW) == ["padding - cipher TLS_AES_128_GCM_SHA256, pad_byte 0", "it's broken"]
    assert scan.failed_probes(OLD) == ["sanity"]
    assert scan.failed_probes("failed: 0\n  \n") == []


def script(output, returncode, name="test-tls13-finished.py"):
    table = scan.Table()
    scan.judge_script(name, returncode, output, FUZZER, table)
    return table.unexplained


def test_scripts_are_judged():
    assert script("", 0) == 0
    assert script(NEW, 1) == 1  # the padding is explained, the other is not
    assert script(OLD, 1) == 1  # nothing explains that nothing works
    assert script("Traceback", 1) == 1
    assert script(NEW, 0) == 1


def test_lists_have_no_typing_errors(tmp_path):
    assert all(row[1] in {r[1] for r in FUZZER if r[0] == "run"} for row in FUZZER if row[0] == "explained")
    names = [row[1] for row in FUZZER if row[0] in ("run", "skip")]
    assert len(names) == len(set(names))
    for text in ("explain | all | a | b | c", "explained | all | a | b"):
        (tmp_path / "list").write_text(text)
        with pytest.raises(scan.Lists):
            scan.read_list(tmp_path / "list", {"explained": (4, 4)})


def test_a_real_front_meets_a_script(tmp_path, monkeypatch):
    """With a script that only connects: the way there, not TLS."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "test-tls13-conversation.py").write_text(
        "import socket, sys\nsocket.create_connection((sys.argv[2], int(sys.argv[4]))).close()\nprint(\"failed: 0\")\n")
    (tmp_path / "scripts" / "test-tls13-new.py").write_text("")
    monkeypatch.setenv("TLSFUZZER_PYTHON", "/usr/bin/python3")
    rows = {row[0]: row[1:] for row in scan.scan_tlsfuzzer(pathlib.Path(tmp_path)).rows}
    assert rows["test-tls13-conversation.py"] == ("passed", "", "-")
    assert rows["test-tls13-new.py"][0] == "unknown"
    assert rows["test-tls13-ccs.py"][0] == "absent"
