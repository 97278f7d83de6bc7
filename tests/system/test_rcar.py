"""The handshake through HTTP, as clients of both versions of the protocol speak it: what they hash, what they bring of
devices, what they can choose, and what becomes of them at the bounds."""
import base64
import hashlib
import json

import pytest

from kbsguest import Guest, jcs, kcv, random_nonce, unb64u
from test_secrets import PATH, RsaGuest, get, open_jwe, put

KEY = "default/disk/vm1"
HASHES = {"supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"]}


class OldGuest(Guest):
    """A client of version 0.2.0."""

    def auth(self, **changes):
        return super().auth(**{"version": "0.2.0", **changes})

    def attestation(self, jwk=None, nonce=None, report_data=None):
        jwk = jwk or self.jwk()
        self.digest = hashlib.sha384(jcs({"tee-pubkey": jwk, "nonce": nonce or self.nonce})).digest()
        data = self.digest if report_data is None else report_data
        return {"tee-pubkey": jwk, "tee-evidence": {"svn": "1", "report_data": base64.b64encode(data).decode()}}


class DeviceGuest(Guest):
    """A client that brings a sample device; `spoil` changes the device's evidence before it is sent."""

    def __init__(self, *argv, hash="sha384", spoil=lambda evidence: evidence):
        super().__init__(*argv)
        self.hash, self.spoil = hash, spoil

    def data(self, value):
        return base64.b64encode(hashlib.new(self.hash, jcs(value)).digest()).decode()

    def attestation(self, jwk=None, nonce=None, report_data=None):
        runtime = {"tee-pubkey": self.jwk(), "nonce": self.nonce}
        additional = json.dumps(self.spoil({"sampledevice": {"svn": "2", "report_data": self.data(runtime)}}), indent=1)
        whole = {**runtime, "additional-evidence": additional}
        self.digest = hashlib.new(self.hash, jcs(whole)).digest()
        return {"init-data": {"format": "toml", "body": "version = \"0.1.0\""}, "runtime-data": runtime,
                "tee-evidence": {"primary_evidence": {"svn": "1", "report_data": self.data(whole)},
                                 "additional_evidence": additional}}


def claims(token):
    return json.loads(unb64u(token.split(".")[1]))


def refused(answer, status, text):
    assert answer.status == status and text in answer.json()["detail"], (answer.status, answer.body)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    from service import Service
    service = Service(tmp_path_factory.mktemp("service") / "softhsm", "softhsm")
    service.start()
    service.generate(KEY)
    yield service
    service.stop()
    print(service.log_text()[-20000:])


def fresh(service, kind=Guest, **options):
    return kind(service.guest_url, service.ca, **options)


def test_a_client_of_0_2_0(one):
    guest = fresh(one, OldGuest).handshake()
    nonce = random_nonce()
    answer = guest.get_key(KEY, nonce=nonce)
    assert answer.status == 200, answer.body
    made = one.admin_json("key", "show", KEY)["kcv"]
    assert kcv(guest.open_jose(answer.json(), KEY + "/v1", nonce)[1]) == made
    put(one, b"a secret")
    assert open_jwe(guest, get(guest).json()) == b"a secret"
    cpu = claims(guest.token)["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    assert cpu["runtime_data_claims"] == {"nonce": guest.nonce, "tee-pubkey": guest.jwk()}
    assert one.records("attest")[-1]["protocol"] == "0.2.0"


def test_a_session_keeps_to_its_version(one):
    old, new = fresh(one, OldGuest), fresh(one)
    for guest in (old, new):
        assert guest.auth().status == 200
    messages = old.attestation(), new.attestation()
    refused(old.attest(messages[1]), 400, "of 0.4.0 in a session of 0.2.0")
    refused(new.attest(messages[0]), 400, "of 0.2.0 in a session of 0.4.0")
    assert old.attest(messages[0]).status == new.attest(messages[1]).status == 200


def test_kbs_guest_speaks_both(one, tmp_path):
    put(one, b"of both versions")
    for version in ("0.4.0", "0.2.0"):
        out = tmp_path / version
        one.guest("get-resource", PATH, "--protocol", version, "--out", out)
        assert out.read_bytes() == b"of both versions"
        one.guest("get-key", KEY, "--protocol", version)
        assert one.records("attest")[-1]["protocol"] == version
    assert one.guest("get-key", KEY, "--protocol", "0.3.0", check=False).returncode == 2


@pytest.mark.parametrize("tee", ["az-snp-vtpm", "azsnpvtpm", "az-tdx-vtpm", "aztdxvtpm", "nvidia", "sgx", "snp", "tdx",
                                 "cca", "csv", "se", "hygondcu", "tpm", "sampledevice"])
def test_a_tee_without_a_verifier(one, tee):
    guest = fresh(one)
    assert guest.auth(tee=tee).status == 200
    refused(guest.attest(), 401, "RCAR handshake Attest failed: there is no verifier here for ")


@pytest.mark.parametrize("listed,selected", [
    (None, None), ([], None), (["sha384"], None), (["sha256", "sha384", "sha512", "sm3"], None), (["sha512"], "sha512"),
    (["sha256", "sha512"], "sha512"), (["SHA256"], "sha256"), (["sha256", "whirlpool"], "sha256"),
])
def test_the_choice_of_a_hash(one, listed, selected):
    guest = fresh(one, DeviceGuest, hash=selected or "sha384")
    answer = guest.auth(**{"extra-params": {} if listed is None else {"supported-hash-algorithms": listed}})
    assert answer.json()["extra-params"] == ({"selected-hash-algorithm": selected} if selected else "")
    assert guest.attest().status == 200


def test_no_hash_to_choose(one):
    answer = fresh(one).auth(**{"extra-params": {"supported-hash-algorithms": ["md5"]}})
    refused(answer, 401, "RCAR handshake Auth failed: supported-hash-algorithms lists none of")
    for wrong in ("sha384", None, {"sha384": 1}, [384], [["sha384"]]):
        refused(fresh(one).auth(**{"extra-params": {"supported-hash-algorithms": wrong}}), 400, "supported-hash-algorithms")
    answer = fresh(one).auth(tee="se", **{"extra-params": HASHES})
    assert answer.json()["extra-params"] == {"selected-hash-algorithm": "sha512"}


def test_a_device(one):
    guest = fresh(one, DeviceGuest).handshake()
    submods = claims(guest.token)["submods"]
    assert sorted(submods) == ["cpu0", "gpu0"]
    evidence = submods["gpu0"]["ear.veraison.annotated-evidence"]
    assert evidence["sampledevice"] == {"svn": "2"}
    assert evidence["runtime_data_claims"] == {"nonce": guest.nonce, "tee-pubkey": guest.jwk()}
    assert "additional-evidence" not in submods["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"]
    assert submods["gpu0"]["ear.status"] == "contraindicated"
    assert one.records("attest")[-1]["devices"] == "sampledevice"
    assert guest.get_key(KEY).status == 200


@pytest.mark.parametrize("spoil,status,text", [
    (lambda e: {"sampledevice": {**e["sampledevice"], "report_data": base64.b64encode(bytes(48)).decode()}}, 401, "report_data"),
    (lambda e: {**e, "nvidia": {}}, 401, "no verifier here for nvidia as a device"),
    (lambda e: {"sample": e["sampledevice"]}, 401, "no verifier here for sample as a device"),
    (lambda e: {**e, "toaster": {}}, 401, "unknown"),
    (lambda e: {"sampledevice": "x"}, 400, ""),
    (lambda e: [e], 400, "additional_evidence"),
    (lambda e: {**e, "x" * (1 << 20): 1}, 413, "additional_evidence"),
])
def test_a_device_that_does_not_hold(one, spoil, status, text):
    guest = fresh(one, DeviceGuest, spoil=spoil)
    assert guest.auth().status == 200
    refused(guest.attest(), status, text)
    guest.spoil = lambda e: e
    assert guest.attest().status == 200  # and the nonce is still good


def test_the_string_is_hashed_as_it_was_sent(one):
    guest = fresh(one, DeviceGuest)
    guest.auth()
    message = guest.attestation()
    same = message["tee-evidence"]["additional_evidence"]
    message["tee-evidence"]["additional_evidence"] = json.dumps(json.loads(same))  # the same value in other bytes
    refused(guest.attest(message), 401, "report_data")


def test_init_data(one):
    guest = fresh(one)
    for value, status in ((None, 200), ({"format": "toml", "body": ""}, 200), ({"format": "json", "body": "{}"}, 400),
                          ({"format": "toml"}, 400), ("x", 400)):
        guest.auth()
        assert guest.attest({**guest.attestation(), "init-data": value}).status == status, value
    guest.auth()
    message = guest.attestation()
    del message["init-data"]
    assert guest.attest(message).status == 200


def test_rsa1_5_is_off(one):
    guest = RsaGuest(one.guest_url, one.ca, "RSA1_5")
    guest.auth()
    refused(guest.attest(), 422, "RSA1_5 is not supported, use RSA-OAEP-256")


def test_rsa1_5_where_it_is_allowed(make_service, token, tmp_path):
    service = make_service(token)
    service.edit_config(r"^allow_sample = .*$", r"\g<0>\nallow_rsa1_5 = true")
    service.start()
    service.generate(KEY, "--floor", "worker")
    put(service, b"for an old guest")
    guest = RsaGuest(service.guest_url, service.ca, "RSA1_5").handshake()
    assert open_jwe(guest, get(guest).json()) == b"for an old guest"
    for answer in (guest.get_key(KEY), get(guest, KEY)):
        refused(answer, 501, "no key is released to a TEE key of RSA1_5")
    assert service.records("deed")[-1]["outcome"] != "done"
    out = tmp_path / "out"
    service.guest("get-resource", PATH, "--tee-alg", "RSA1_5", "--protocol", "0.2.0", "--out", out)
    assert out.read_bytes() == b"for an old guest"
    assert service.guest("get-key", KEY, "--tee-alg", "RSA1_5", check=False).returncode != 0


def test_too_many_begin(make_service):
    service = make_service("softhsm")
    service.edit_config(r"^max_connections = .*$", r"\g<0>\nsessions = 3")
    service.start()
    service.generate(KEY)
    attested = fresh(service).handshake()
    waiting = [fresh(service) for _ in range(3)]
    assert [guest.auth().status for guest in waiting] == [200] * 3
    answer = fresh(service).auth()
    assert answer.status == 429 and int(answer.headers["retry-after"]) >= 1
    refused(answer, 429, "too many sessions")
    assert attested.get_key(KEY).status == 200
    assert waiting[0].attest().status == 200
    assert fresh(service).auth().status == 200
