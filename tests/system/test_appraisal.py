"""What attested guests are compared with: reference values by kbs-admin and by Trustee's messages, attestation policies
of the shape of Trustee's default ones, and what a guest may have by the status that comes of it."""
import base64
import json
import pathlib
import re
import time

import pytest

from kbsadmin import Admin
from kbsguest import Guest, b64u
from service import ROLES
from test_secrets import get, open_jwe
from test_snp import MEASUREMENT, SnpGuest, configure, cpu, make_folder

needs_rego = pytest.mark.skipif("kbs-policy" not in ROLES, reason="kbs-policy is not built (no cargo, or no crates)")
POLICY = (pathlib.Path(__file__).resolve().parent / "attestation_policy.rego").read_text()
PATH = "one/two/three"
AFFIRMING = ('package policy\nimport rego.v1\ndefault allow = false\nallow if {\n  count(input.submods) > 0\n'
             '  every _, s in input.submods { s["ear.status"] == "affirming" }\n}\n')
TCB = ("bootloader", "tee_svn", "snp_svn", "microcode")
LOOP = ("package policy\nimport rego.v1\nx := [1 | some a in numbers.range(1, 100000); "
        "some b in numbers.range(1, 100000); a * b < 0]\ntrust_claims := {\"hardware\": count(x)}\n")


@pytest.fixture
def attesting(make_service, tmp_path):
    """A service with [attest.snp], a resource for guests that are affirming, and no policy of evidence."""
    pki = make_folder(tmp_path / "certificates")
    service = configure(make_service(), pki).start()
    service.snp = pki
    admin = Admin(service)
    assert admin.request("POST", "/kbs/v0/resource/" + PATH, raw=b"value", content_type="text/plain").status == 200
    if "kbs-policy" in ROLES:
        set_policy(admin, "resource-policy", AFFIRMING)
    yield service, admin
    admin.close()


def set_policy(admin, kind, text, status=200, **more):
    answer = admin.request("POST", f"/kbs/v0/{kind}", {"policy": b64u(text.encode()), **more})
    assert answer.status == status, answer.body
    return answer


def attestation_policy(admin, text, name="default_cpu", **more):
    return set_policy(admin, "attestation-policy", text, type="rego", policy_id=name, **more)


def reference(service, *argv, check=True):
    return service.admin("attest", "reference", *argv, check=check)


def appraised(guest):
    """(status, vector, policy) of the guest's TEE."""
    part = cpu(guest.token)
    return part["ear.status"], part["ear.trustworthiness-vector"], part["ear.appraisal-policy-id"]


def snp_guest(service):
    guest = SnpGuest(service, service.snp).begin()
    answer = guest.attest(guest.attestation())
    assert answer.status == 200, answer.body
    return guest


def sample_guest(service):
    return Guest(service.guest_url, service.ca).handshake()


def set_tcb(service, claims, **changed):
    """The reference values of a guest's own claims, but for those named."""
    for name, member in zip(TCB, ("bootloader", "tee", "snp", "microcode")):
        value = changed.get(name, claims[f"reported_tcb_{member}"])
        reference(service, "set", f"snp_{name}", str(value))


@needs_rego
def test_a_policy_of_trustees_shape_and_its_reference_values(attesting):
    service, admin = attesting
    attestation_policy(admin, POLICY)
    guest = snp_guest(service)
    assert appraised(guest) == ("contraindicated", {"executables": 33, "hardware": 97, "configuration": 3}, "default_cpu/v1")
    assert get(guest, PATH).status == 403
    claims = cpu(guest.token)["ear.veraison.annotated-evidence"]["snp"]

    set_tcb(service, claims)
    guest = snp_guest(service)
    assert appraised(guest)[:2] == ("warning", {"executables": 33, "hardware": 2, "configuration": 3})
    assert get(guest, PATH).status == 403

    digests = service.folder / "digests"
    digests.write_text(f"# two builds\n{'ab' * 48}  old\n{MEASUREMENT.upper()}  new\n")
    reference(service, "import", digests, "--as", "snp_launch_measurement")
    guest = snp_guest(service)
    assert appraised(guest)[:2] == ("affirming", {"executables": 3, "hardware": 2, "configuration": 3})
    assert open_jwe(guest, get(guest, PATH).json()) == b"value"
    assert service.records("attest")[-1]["status"] == "affirming"
    assert service.records("attest")[-1]["policy"] == "default_cpu/v1"

    set_tcb(service, claims, microcode=255)
    guest = snp_guest(service)
    assert appraised(guest)[0] == "contraindicated" and get(guest, PATH).status == 403
    set_tcb(service, claims)
    reference(service, "set", "snp_launch_measurement", "ab" * 48)
    guest = snp_guest(service)
    assert appraised(guest)[0] == "warning" and get(guest, PATH).status == 403

    # The sample's, as Trustee's client sends them.
    payload = {"launch_digest": ["abcde"], "svn": ["1"], "major_version": 1, "minimum_minor_version": 4}
    message = {"version": "0.1.0", "type": "sample", "payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    guest = sample_guest(service)
    assert appraised(guest)[0] == "contraindicated" and get(guest, PATH).status == 403
    assert admin.request("POST", "/kbs/v0/reference-value", message).status == 200
    guest = sample_guest(service)
    assert appraised(guest)[:2] == ("affirming", {"executables": 3, "hardware": 2, "configuration": 2})
    assert get(guest, PATH).status == 200


@needs_rego
def test_a_policy_that_breaks_attests_nobody(attesting):
    service, admin = attesting
    for text, why in (("package policy\nallow := true\n", "there is no rule trust_claims"),
                      ("package policy\n\ntrust_claims := {\n", "line 4"), ("package other\nresult := {}\n", "not policy")):
        assert why in attestation_policy(admin, text, status=422).json()["detail"]
    for text, why in ((LOOP, "cannot be evaluated"), ("package policy\nresult := {\"hardware\": 1 / input.no}\n", "cannot be"),
                      ("package policy\nresult := {\"hardwear\": 2}\n", "'hardwear' is no trust claim")):
        attestation_policy(admin, text)
        begin = time.monotonic()
        guest = Guest(service.guest_url, service.ca)
        assert guest.auth().status == 200
        answer = guest.attest(guest.attestation())
        assert time.monotonic() - begin < 10  # half a second, but for a busy machine
        assert answer.status == 401 and why in answer.json()["detail"]
        assert why in service.records("attest-refused")[-1]["reason"]
    attestation_policy(admin, "package policy\nresult := {\"executables\": 2, \"file-system\": 96}\n", name="default")
    attestation_policy(admin, "")  # taken back: the plain one serves
    assert appraised(sample_guest(service)) == ("contraindicated", {"executables": 2, "file-system": 96}, "default/v1")


def test_reference_values_without_a_policy(attesting):
    service, admin = attesting
    assert appraised(snp_guest(service)) == ("warning", {"executables": 33, "hardware": 2, "configuration": 3}, "default")
    comid = {"tag-identity": {"id": "x"}, "triples": {"reference-values": [{
        "environment": {"class": {"vendor": "ACME", "model": "VM"}},
        "measurements": [{"value": {"digests": ["sha-384;" + base64.b64encode(bytes.fromhex(MEASUREMENT)).decode()],
                                    "svn": {"type": "exact-value", "value": 1}}}]}]}}
    path = service.folder / "comid.json"
    path.write_text(json.dumps(comid))
    shown = reference(service, "import", path)
    assert "ACME/VM/digests (1)" in shown.stdout and "1 members of measurements" in shown.stderr
    assert appraised(snp_guest(service))[0] == "warning"  # its name is compared with nothing
    reference(service, "import", path, "--as", "snp_launch_measurement", "--expires", "2099-01-01T00:00:00Z")
    guest = snp_guest(service)
    assert appraised(guest)[:2] == ("affirming", {"executables": 3, "hardware": 2, "configuration": 3})
    if "kbs-policy" in ROLES:
        assert get(guest, PATH).status == 200

    listed = reference(service, "list").stdout
    assert re.search(rf"snp_launch_measurement +{admin.thumbprint} +\S+Z +2099-01-01T00:00:00Z +\[\"{MEASUREMENT[:40]}", listed)
    assert json.loads(reference(service, "get", "ACME/VM/digests").stdout) == [MEASUREMENT]
    reference(service, "delete", "snp_launch_measurement")
    assert appraised(snp_guest(service))[0] == "warning"
    assert reference(service, "get", "snp_launch_measurement", check=False).returncode != 0
    assert "snp_launch" not in reference(service, "list").stdout
    for bad in (("set", "a b", "1"), ("set", "a", "1", "2", "--single"), ("set", "a", "1", "--expires", "tomorrow"),
                ("set", "a", "1", "--expires", "1"), ("import", path, "--form", "xml"), ("import", service.folder / "none")):
        assert reference(service, *bad, check=False).returncode != 0
    dry = json.loads(reference(service, "set", "n", "3", "true", "x", "--dry-run").stdout)
    assert dry == {"values": {"n": [3, True, "x"]}}
    assert reference(service, "get", "n", check=False).returncode != 0
    reference(service, "set", "n", "3", "--single", "--string")
    assert json.loads(reference(service, "get", "n").stdout) == "3"
