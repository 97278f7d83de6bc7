"""SEV-SNP evidence of a test PKI through a whole service: what is bound in full gets its key, and what fails one check
gets that check's name and nothing else."""
import base64
import hashlib
import http.server
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mock"))
import load  # noqa: E402
from kbsguest import Guest  # noqa: E402
from service import BIN, run, wait_until  # noqa: E402

MAKE = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/snp_make"
MEASUREMENT = "4d" * 48
INIT_DATA = 'version = "0.1.0"\nalgorithm = "sha384"\n\n[data]\n"aa.toml" = "x = 1"\n'
PATH = "default/snp/disk"
FULL = {"version": "1.0.0", "anyOf": [{"allOf": [
    {"claim": "kbs.binding", "equals": "full"},
    {"claim": 'submods.cpu0."ear.veraison.annotated-evidence".snp.measurement', "equals": MEASUREMENT},
]}]}


def make_folder(path, *options):
    path.mkdir()
    subprocess.run([MAKE, "folder", path, *options], check=True, timeout=60)
    return path


def configure(service, folder, more=""):
    """[attest.snp] with the test PKI's root."""
    with open(service.folder / "kbs.toml", "a") as config:
        config.write(f'\n[attest.snp]\ncertificates = "{folder}"\ntest_root = "{(folder / "roots").read_text()}"\n{more}')
    return service


@pytest.fixture
def pki(tmp_path):
    return make_folder(tmp_path / "certificates")


class SnpGuest(Guest):
    """A guest of kbsguest.py with evidence of the maker."""

    def __init__(self, service, pki, curve="P-256"):
        super().__init__(service.guest_url, service.ca, curve)
        self.pki = pki

    def attestation(self, *changes, report_data=None, init_data=None):
        message = super().attestation()
        made = subprocess.run([MAKE, "evidence", self.pki, (report_data() if callable(report_data) else report_data or self.digest).hex(), *changes], check=True,
                              timeout=60, capture_output=True)
        message["tee-evidence"]["primary_evidence"] = json.loads(made.stdout)
        if init_data is not None:
            message["init-data"] = {"format": "toml", "body": init_data}
        return message

    def svsm_digest(self):
        numbers = self.key.public_key().public_numbers()
        return hashlib.sha512(numbers.x.to_bytes(66, "big") + numbers.y.to_bytes(66, "big") + base64.b64decode(self.nonce)).digest()

    def begin(self):
        assert self.auth(tee="snp").status == 200
        return self

    def refused(self, service, check, *changes, **more):
        """401 with the name of the check, a record of it, and no session."""
        answer = self.begin().attest(self.attestation(*changes, **more))
        assert answer.status == 401, answer.body
        assert f"evidence: {check}: " in answer.json()["detail"], answer.body
        assert answer.json()["detail"].count("evidence: ") == 1
        assert self.get_key(PATH).status == 401
        record = service.records("attest-refused")[-1]
        assert record["tee"] == "snp" and record["reason"].startswith(f"evidence: {check}: ")
        assert re.search(rf"evidence_check session={record['session']} check={check} outcome=FAIL", service.log_text())


def evidence_command(tmp_path, pki, *changes):
    script = tmp_path / "evidence"
    script.write_text(f'#!/bin/sh\nexec {MAKE} evidence {pki} "$1" {" ".join(changes)}\n')
    script.chmod(0o700)
    return script


def cpu(token):
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims["submods"]["cpu0"]


def test_a_guest_that_is_bound_in_full_gets_its_key(make_service, pki, tmp_path):
    service = configure(make_service(), pki).start()
    made = service.admin_json("key", "generate", PATH, "--policy", service.policy_file(FULL))
    shown = service.guest("get-key", PATH, "--tee", "snp", "--evidence-command", evidence_command(tmp_path, pki), "--json")
    assert json.loads(shown.stdout)["kcv"] == made["kcv"]
    assert service.records("attest")[-1]["binding"] == "full"
    assert service.records("release")[-1]["binding"] == "full"
    assert service.guest("get-key", PATH, check=False).returncode == 4  # sample evidence: the key's policy denies it

    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation("no-leaf")).status == 200  # its VCEK is in the operator's folder
    part = cpu(guest.token)
    assert part["ear.status"] == "warning" and part["ear.trustworthiness-vector"]["hardware"] == 2
    evidence = part["ear.veraison.annotated-evidence"]
    assert evidence["snp"]["measurement"] == MEASUREMENT and evidence["snp"]["roots"] == "test"
    assert evidence["snp"]["init_data_state"] == "absent" and "init_data" not in evidence
    assert evidence["report_data"] == guest.digest.hex()
    assert guest.get_key(PATH).status == 200


def test_each_failed_check_is_named_and_opens_no_session(make_service, pki):
    service = configure(make_service(), pki).start()
    service.generate(PATH)
    other = SnpGuest(service, pki).begin()
    other.attestation()
    SnpGuest(service, pki).refused(service, "report-data", report_data=other.digest)
    SnpGuest(service, pki).refused(service, "debug", "debug")
    SnpGuest(service, pki).refused(service, "vmpl", "vmpl=1")
    SnpGuest(service, pki).refused(service, "signature", "forged")
    guest = SnpGuest(service, pki, "P-521").begin()
    guest.refused(service, "report-data", "svsm", report_data=guest.svsm_digest)  # svsm_binding is not configured
    assert not service.records("attest")
    # A refusal does not use the nonce up: the same session attests with evidence that holds.
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation("debug")).status == 401
    assert guest.attest(guest.attestation()).status == 200
    assert SnpGuest(service, pki).begin().attest({"tee-evidence": {}}).status == 400


def test_coconut_svsm_is_bound_in_either_way(make_service, pki):
    service = configure(make_service(), pki, 'svsm_binding = true\nvmpl = 2\n').start()
    service.admin_json("key", "generate", PATH, "--policy", service.policy_file(FULL))
    guest = SnpGuest(service, pki, "P-521").begin()
    assert guest.attest(guest.attestation("svsm", "no-leaf")).status == 200  # as all others are, and as newer clients are
    guest = SnpGuest(service, pki, "P-521").begin()
    digest = guest.svsm_digest()
    assert guest.attest(guest.attestation("svsm", "no-leaf", report_data=digest)).status == 200
    assert cpu(guest.token)["ear.veraison.annotated-evidence"]["report_data"] == digest.hex()
    assert service.records("attest")[-1]["report_data"] == digest.hex()
    assert guest.get_key(PATH).status == 200
    # Another session's, VMPL 1, CoCo's shape, and devices beside it, which that digest does not cover.
    other = SnpGuest(service, pki, "P-521").begin()
    SnpGuest(service, pki, "P-521").refused(service, "report-data", "svsm", report_data=other.svsm_digest())
    guest = SnpGuest(service, pki, "P-521").begin()
    guest.refused(service, "vmpl", "svsm", "vmpl=1", report_data=guest.svsm_digest)
    guest.refused(service, "report-data", "vmpl=2", report_data=guest.svsm_digest)
    message = guest.begin().attestation("svsm", report_data=guest.svsm_digest())
    message["tee-evidence"]["additional_evidence"] = json.dumps({"sampledevice": {"svn": "2", "report_data": ""}})
    answer = guest.attest(message)
    assert answer.status == 401 and "evidence: report-data: " in answer.json()["detail"]


def test_init_data_is_compared_with_host_data(make_service, pki):
    service = configure(make_service(), pki).start()
    policy = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.init_data_matched", "equals": True}]}]}
    service.admin_json("key", "generate", PATH, "--policy", service.policy_file(policy))
    digest = hashlib.sha384(INIT_DATA.encode()).hexdigest()
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation(f"init-data={digest}", init_data=INIT_DATA)).status == 200
    evidence = cpu(guest.token)["ear.veraison.annotated-evidence"]
    assert evidence["init_data"] == digest[:64] and evidence["snp"]["init_data_state"] == "matched"
    assert guest.get_key(PATH).status == 200
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation()).status == 200  # neither a document nor a field: attested, and not matched
    assert guest.get_key(PATH).status == 403
    SnpGuest(service, pki).refused(service, "host-data", f"init-data={digest}", init_data=INIT_DATA + "# more\n")
    SnpGuest(service, pki).refused(service, "host-data", init_data=INIT_DATA)
    SnpGuest(service, pki).refused(service, "host-data", f"init-data={digest}")
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation(f"init-data={digest}", init_data="no = [init-data")).status == 400


def test_the_operators_floor_is_kept(make_service, pki):
    service = configure(make_service(), pki, 'minimum = [{ product = "genoa", snp = 24 }]\n').start()
    SnpGuest(service, pki).refused(service, "minimum-tcb")
    service = configure(make_service(), pki, f'chip_ids = ["{"c2" * 64}"]\n').start()
    SnpGuest(service, pki).refused(service, "chip-allowed")


def test_a_revoked_signer_is_refused(make_service, tmp_path):
    pki = make_folder(tmp_path / "certificates", "revoked")
    service = configure(make_service(), pki).start()
    SnpGuest(service, pki).refused(service, "revocation")


def test_without_configuration_and_under_amds_roots_nobody_attests(make_service, pki):
    service = make_service().start()
    guest = SnpGuest(service, pki).begin()
    answer = guest.attest(guest.attestation())
    assert answer.status == 401 and "there is no verifier here for snp as a TEE: none is configured" in answer.json()["detail"]
    service = configure(make_service(), pki)
    service.edit_config(r"^test_root = .*$", "")
    service.start()
    SnpGuest(service, pki).refused(service, "root")


def test_production_takes_no_test_root(make_service, pki):
    service = configure(make_service(), pki)
    service.edit_config(r'^mode = "demo"', 'mode = "production"')
    service.edit_config(r"^allow_sample = .*$", "allow_sample = false")
    done = run(BIN / "kbsd", "-c", service.folder / "kbs.toml", "--check-config", check=False)
    assert done.returncode == 2 and "test_root: whoever has its key can make any evidence" in done.stderr


def test_a_reload_costs_no_request_and_a_broken_one_changes_nothing(make_service, pki):
    """SIGHUP: a judge looks at the new configuration, then guest lanes are replaced one by one, under load."""
    service = configure(make_service("softhsm", 2), pki).start()
    made = service.generate("default/other/key")
    loads = load.start(service, made, "default/other/key", 2)
    crl = (pki / "genoa/crl.der").read_bytes()

    def reload(event, times):
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(re.findall(event, service.log_text())) >= times, 60, event)

    def again(n):
        reload("event=reloaded ", n)
        wait_until(lambda: len(re.findall("event=lane-attached unit=lane-guest", service.log_text())) >= 2 + 2 * n, 60, "lanes")

    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation()).status == 200
    service.edit_config(r"^(\[attest.snp\])$", f'\\1\nchip_ids = ["{"c2" * 64}"]')
    again(1)
    SnpGuest(service, pki).refused(service, "chip-allowed")
    # Certificates that are none, and a key that is none: the configuration of before stays.
    service.edit_config(r"^chip_ids = .*$", "")
    (pki / "genoa/crl.der").write_bytes(b"x")
    reload("event=reload-refused status=79 ", 1)
    assert "attest.snp.certificates: genoa/crl.der: " in service.log_text()
    (pki / "genoa/crl.der").write_bytes(crl)
    service.edit_config(r"^certificates = ", "certificatez = ")
    reload("event=reload-refused ", 2)
    assert "event=reload-finding " in service.log_text()
    SnpGuest(service, pki).refused(service, "chip-allowed")
    service.edit_config(r"^certificatez = ", "certificates = ")
    again(2)
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation()).status == 200
    for one in loads:
        one.end()
    assert {answer[2] for answer in load.answers(loads)} == {200}
    assert not any(one.wrong or one.unanswered for one in loads)


class Kds(http.server.ThreadingHTTPServer):
    """AMD's key distribution service: VCEKs by their path and query, and the list of revocations, as `serves` has them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.serves, self.asked = {}, []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append(self.path)
            status, body = self.server.serves.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass


@pytest.fixture
def kds():
    server = Kds()
    yield server
    server.shutdown()
    server.server_close()


def test_a_missing_vcek_and_newer_lists_come_from_amd(make_service, tmp_path, kds):
    pki = make_folder(tmp_path / "certificates", "later")
    (vcek,) = (pki / "genoa/vcek").iterdir()
    leaf = vcek.read_bytes()
    vcek.unlink()
    path = f"/vcek/v1/Genoa/{'c1' * 64}?blSPL=09&teeSPL=03&snpSPL=23&ucodeSPL=217"
    service = configure(make_service(lanes=1), pki, f'''kds = "kds"

[fetch]
cache = "fetch"
[[fetch.endpoint]]
name = "kds"
url = "http://127.0.0.1:{kds.server_port}"
keep_days = 30
[[fetch.document]]
name = "crl/genoa"
url = "http://127.0.0.1:{kds.server_port}/vcek/v1/Genoa/crl"
refresh_s = 60
''')
    (service.folder / "fetch").mkdir(mode=0o700)
    kds.serves["/vcek/v1/Genoa/crl"] = (200, (pki / "genoa/crl.der").read_bytes())
    service.start()
    # There is none; then KDS has too much to do; evidence that would be refused anyway is nothing to ask for.
    SnpGuest(service, pki).refused(service, "certificate", "no-leaf")
    assert kds.asked.count(path) == 1
    guest = SnpGuest(service, pki).begin()
    kds.serves[path] = (429, b"")
    answer = guest.attest(guest.attestation("no-leaf"))
    assert answer.status == 503 and answer.headers["retry-after"]
    asked = kds.asked.count(path)
    SnpGuest(service, pki).refused(service, "certificate", "no-leaf", "debug")
    assert kds.asked.count(path) == asked
    # Another's certificate is verified like any other; the right one is kept, and asked for once.
    kds.serves[path] = (200, leaf)
    assert guest.attest(guest.attestation("no-leaf")).status == 200
    asked = kds.asked.count(path)
    guest = SnpGuest(service, pki).begin()
    assert guest.attest(guest.attestation("no-leaf")).status == 200
    assert kds.asked.count(path) == asked
    SnpGuest(service, pki).refused(service, "signature", "no-leaf", "forged")
    service.stop()
    # A list that revokes the ASK, newer than the folder's, is taken from kbs-fetch.
    kds.serves["/vcek/v1/Genoa/crl"] = (200, (pki / "later.crl").read_bytes())
    service.start()
    wait_until(lambda: kds.asked.count("/vcek/v1/Genoa/crl") >= 2, 60, "the list is fetched")
    SnpGuest(service, pki).refused(service, "revocation")
    assert "event=document-renewed name=crl/genoa" in service.log_text()


def test_certificates_that_are_none_are_named(make_service, pki):
    service = configure(make_service(), pki)
    done = run(BIN / "kbsd", "-c", service.folder / "kbs.toml", "--check-config", check=False)
    assert done.returncode == 0, done.stderr
    (pki / "genoa/crl.der").write_bytes(b"x")
    done = run(BIN / "kbsd", "-c", service.folder / "kbs.toml", "--check-config", check=False)
    assert done.returncode == 2 and "attest.snp.certificates: genoa/crl.der: " in done.stderr
    service.start(ready=False)
    assert service.process.wait(60) != 0
    assert "attest.snp.certificates: genoa/crl.der: " in service.log_text()
