"""kbs-admin attest and initdata: offline, on evidence of a test PKI and on what kbs-admin itself makes."""
import base64
import hashlib
import json
import os
import pathlib
import subprocess
import tomllib

import pytest

from stub import run

MAKE = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/snp_make"
REPORT_DATA = "d1" * 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The operator's folder of a test PKI, `roots` (its pin) and evidence.json."""
    path = tmp_path_factory.mktemp("snp")
    subprocess.run([MAKE, "folder", path], check=True, timeout=60)
    make_evidence(path)
    return path


def make_evidence(folder, *changes):
    made = subprocess.run([MAKE, "evidence", folder, REPORT_DATA, *changes], check=True, timeout=60, capture_output=True)
    (folder / "evidence.json").write_bytes(made.stdout)


def explain(folder, *options, evidence="evidence.json"):
    done = run("kbs-admin", "--json", "attest", "explain", folder / evidence, "--certs", folder,
               "--test-root", (folder / "roots").read_text(), *options)
    verdict = json.loads(done.stdout) if done.stdout else None
    failed = [check["name"] for check in verdict["checks"] if check["outcome"] == "FAIL"] if verdict else None
    return done, verdict, failed


def test_explain_all_holds(folder):
    done, verdict, failed = explain(folder, "--report-data", REPORT_DATA)
    assert (done.returncode, failed, verdict["binding"]) == (0, [], "full"), done
    assert verdict["claims"]["roots"] == "test"


@pytest.mark.parametrize("options, failing", [
    (["--report-data", "d2" * 48], ["report-data"]),
    (["--vmpl", "1"], ["vmpl"]),
    (["--time", "2023-01-01T00:00:00Z"], ["validity", "revocation"]),
    (["--products", "milan,turin"], ["product-allowed"]),
    (["--version-min", "4"], ["version"]),
])
def test_explain_names_what_fails(folder, options, failing):
    done, verdict, failed = explain(folder, *options)
    assert (done.returncode, failed) == (1, failing), done
    assert verdict["binding"] == "none"


def test_explain_under_amds_roots(folder):
    """Nothing but the option, which says so in the claims, makes a test PKI's evidence hold."""
    done = run("kbs-admin", "attest", "explain", folder / "evidence.json", "--certs", folder)
    assert done.returncode == 1
    assert b"FAIL  root               the ARK in the folder has not the key of AMD's root for Genoa" in done.stdout


def test_explain_init_data(folder, tmp_path):
    (tmp_path / "aa.toml").write_text("x = 1\n")
    run("kbs-admin", "initdata", "make", f"aa.toml={tmp_path}/aa.toml", "--out", tmp_path / "id.toml")
    digest = json.loads(run("kbs-admin", "--json", "initdata", "digest", tmp_path / "id.toml").stdout)["digest"]
    subprocess.run([MAKE, "folder", tmp_path], check=True, timeout=60)
    make_evidence(tmp_path, f"init-data={digest}")
    done, verdict, failed = explain(tmp_path, "--init-data", tmp_path / "id.toml")
    assert (failed, verdict["init_data"]) == ([], "matched"), done
    done, verdict, failed = explain(tmp_path)
    assert (failed, verdict["init_data"]) == (["host-data"], "unexplained"), done
    (tmp_path / "id.toml").write_bytes((tmp_path / "id.toml").read_bytes() + b"\n")
    done, verdict, failed = explain(tmp_path, "--init-data", tmp_path / "id.toml")
    assert (failed, verdict["init_data"]) == (["host-data"], "mismatched"), done


def test_explain_what_it_is_worth(folder, tmp_path):
    """Reference values line by line, and the vector of the built-in appraisal; none of evidence that is refused."""
    (tmp_path / "digests").write_text("4d" * 48 + "\n")
    done, verdict, _ = explain(folder, "--reference", tmp_path / "digests", "--as", "snp_launch_measurement")
    assert verdict["appraisal"]["status"] == "affirming" and done.returncode == 0
    assert verdict["appraisal"]["vector"] == {"executables": 3, "hardware": 2, "configuration": 3}
    outcomes = {line["reference"]: line["outcome"] for line in verdict["appraisal"]["references"]}
    assert outcomes["snp_launch_measurement"] == "match" and outcomes["snp_microcode"] == "not set"
    (tmp_path / "values").write_text('{"snp_microcode": [255]}')
    shown = run("kbs-admin", "attest", "explain", folder / "evidence.json", "--certs", folder, "--test-root",
                (folder / "roots").read_text(), "--reference", tmp_path / "values").stdout.decode()
    assert "NO MATCH  hardware       snp_microcode           217" in shown and "97, contraindicated" in shown
    _, verdict, failed = explain(folder, "--vmpl", "1", "--reference", tmp_path / "values")
    assert failed and verdict["appraisal"] is None
    for options in (["--reference", tmp_path / "digests"], ["--reference", tmp_path / "none"], ["--policy", tmp_path / "none"]):
        assert explain(folder, *options)[0].returncode not in (0, 1) or not explain(folder, *options)[1]


@pytest.mark.skipif(not (pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "bin/kbs-policy").exists(), reason="no kbs-policy")
def test_explain_by_policy(folder, tmp_path):
    policy = tmp_path / "policy.rego"
    policy.write_text('package policy\nimport rego.v1\ndefault x := 33\n'
                      'x := 3 if input.snp.evidence.measurement in query_reference_value("snp_launch_measurement")\n'
                      'trust_claims := {"executables": x}\n')
    (tmp_path / "values").write_text(json.dumps({"snp_launch_measurement": ["4d" * 48]}))
    assert explain(folder, "--policy", policy)[1]["appraisal"]["vector"] == {"executables": 33}
    done, verdict, _ = explain(folder, "--policy", policy, "--reference", tmp_path / "values")
    assert verdict["appraisal"]["vector"] == {"executables": 3} and verdict["appraisal"]["status"] == "affirming"
    policy.write_text("package policy\n\ntrust_claims := {\n")
    assert b"line 4" in explain(folder, "--policy", policy)[0].stderr


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"attestation_report":{}}', b"\x02" * 1183, b"\x02" * 1185])
def test_explain_what_is_no_evidence(tmp_path, content):
    (tmp_path / "e").write_bytes(content)
    done = run("kbs-admin", "attest", "explain", tmp_path / "e")
    assert done.returncode not in (0, 1) or b"kbs-admin:" in done.stderr
    assert done.returncode != 0 and done.stdout == b""


@pytest.mark.parametrize("options", [["--time", "soon"], ["--products", "rome"], ["--report-data", "xyz"],
                                     ["--test-root", "00"], ["--certs", "/nonexistent/file/"]])
def test_explain_wrong_options(folder, options):
    done = run("kbs-admin", "attest", "explain", folder / "evidence.json", *options)
    assert done.returncode != 0


def test_explain_finds_the_report_data_of_other_kinds(tmp_path):
    field = bytes(range(1, 49)) + bytes(16)
    quote = (4).to_bytes(2, "little") + bytes(2) + (0x81).to_bytes(4, "little") + bytes(40) + bytes(520) + field + bytes(4)
    (tmp_path / "tdx.json").write_text(json.dumps({"quote": base64.b64encode(quote).decode()}))

    def find(tee, *options):
        return run("kbs-admin", "--json", "attest", "explain", tmp_path / "tdx.json", "--tee", tee, *options)

    assert json.loads(find("tdx").stdout) == {"tee": "tdx", "report_data": field.hex(), "outcome": "not compared"}
    done = find("tdx", "--report-data", field[:48].hex())
    assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "pass"
    done = find("tdx", "--report-data", "d1" * 48)
    assert done.returncode == 1 and json.loads(done.stdout)["outcome"] == "FAIL"
    for tee, why in (("sgx", "not an SGX quote"), ("cca", "token"), ("rome", "no kind is called that")):
        done = find(tee)
        assert done.returncode != 0 and why.encode() in done.stderr and not done.stdout



@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_initdata_round_trip(tmp_path, algorithm):
    texts = {"aa.toml": "[token]\nx = \"1\"\n", "odd.txt": "it's '''odd''' \\ \"q\"\r\n\tend'", "empty": "",
             "policy.rego": "package p\n", "lf first": "\nx"}
    arguments = []
    for number, (name, text) in enumerate(texts.items()):
        (tmp_path / str(number)).write_bytes(text.encode())
        arguments.append(f"{name}={tmp_path}/{number}")
    made = run("kbs-admin", "initdata", "make", *arguments, "--algorithm", algorithm)
    assert made.returncode == 0, made
    assert tomllib.loads(made.stdout.decode()) == {"version": "0.1.0", "algorithm": algorithm, "data": texts}
    (tmp_path / "id.toml").write_bytes(made.stdout)
    digest = hashlib.new(algorithm, made.stdout).hexdigest()
    shown = json.loads(run("kbs-admin", "--json", "initdata", "digest", tmp_path / "id.toml").stdout)
    assert shown["digest"] == digest
    assert shown["snp host_data"] == digest[:64]
    assert shown["tdx mrconfigid"] == digest[:96].ljust(96, "0")
    assert shown["cca rpv"] == digest.ljust(128, "0")
    assert ("vtpm pcr8" in shown) == (algorithm == "sha256")
    if algorithm == "sha256":
        assert shown["vtpm pcr8"] == hashlib.sha256(bytes(32) + bytes.fromhex(digest)).hexdigest()


def test_initdata_refused(tmp_path):
    (tmp_path / "bad").write_bytes(b"\xff")
    for arguments in (["make", "x"], ["make", f"x={tmp_path}/bad"], ["make", f"x={tmp_path}/none"],
                      ["make", "x=/dev/null", "--algorithm", "md5"], ["digest", tmp_path / "bad"]):
        done = run("kbs-admin", "initdata", *arguments)
        assert done.returncode != 0 and done.stdout == b"", arguments
