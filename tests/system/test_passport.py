"""A token of another issuer in the place of a handshake, from the configuration to the key that a guest opens."""
import base64
import hashlib
import json
import time

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kbsguest import Guest, b64u, jcs, kcv

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
POLICY = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.binding", "equals": "token"},
                                                  {"claim": "kbs.tee", "equals": "snp"}]}]}


def mint(key, jwk, **changes):
    """What CoCo's service says of a guest with that TEE key."""
    now = int(time.time())
    nonce = base64.b64encode(bytes(32)).decode()
    runtime = {"additional-evidence": "", "nonce": nonce, "tee-pubkey": jwk}
    evidence = {"snp": {"measurement": "00"}, "report_data": hashlib.sha384(jcs(runtime)).hexdigest() + "00" * 16,
                "runtime_data_claims": runtime}
    claims = {"iss": "CoCo-Attestation-Service", "iat": now, "exp": now + 300, "eat_profile": PROFILE,
              "ear.verifier-id": {"developer": "d", "build": "b"},
              "submods": {"cpu0": {"ear.status": "affirming", "ear.trustworthiness-vector": {"hardware": 2},
                                   "ear.appraisal-policy-id": "default", "ear.veraison.annotated-evidence": evidence}}}
    claims.update(changes)
    text = b64u(json.dumps({"alg": "ES256", "typ": "JWT"}).encode()) + "." + b64u(json.dumps(claims).encode())
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return text + "." + b64u(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


def test_a_passport_opens_a_key(make_service):
    service = make_service("softhsm", 1)
    issuer = ec.generate_private_key(ec.SECP256R1())
    (service.folder / "coco.pem").write_bytes(issuer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    config = service.folder / "kbs.toml"
    config.write_text(config.read_text() + """
[[issuer]]
name = "coco"
profile = "coco-ear"
issuer = ["CoCo-Attestation-Service"]
keys = "coco.pem"
passport = true
require = { tees = ["snp", "tdx"], policy_ids = ["default"] }
""")
    service.start()
    made = service.admin_json("key", "generate", "default/disk/vm1", "--policy", service.policy_file(POLICY))
    service.generate("default/disk/other")  # whose policy wants sample evidence
    guest = Guest(service.guest_url, service.ca)
    token = mint(issuer, guest.jwk())
    guest.digest = hashlib.sha256(token.encode()).digest()
    bearer = {"Authorization": "Bearer " + token}

    answer = guest.get_key("default/disk/vm1", headers=bearer)
    assert answer.status == 200, answer.body
    assert kcv(guest.open_jose(answer.json(), "default/disk/vm1/v1")[1]) == made["kcv"]
    [record] = service.records("release")
    assert (record["mode"], record["issuer"], record["binding"], record["tee"]) == ("passport", "coco", "token", "snp")
    assert guest.get_key("default/disk/other", headers=bearer).status == 403

    stranger = ec.generate_private_key(ec.SECP256R1())
    for bad in (mint(stranger, guest.jwk()), mint(issuer, guest.jwk(), exp=1), mint(issuer, guest.jwk(), iss="x"),
                mint(issuer, guest.jwk(), aud="x"), token[:-4] + "AAAA", token + ", Bearer " + token):
        answer = guest.get_key("default/disk/vm1", headers={"Authorization": "Bearer " + bad})
        assert answer.status == 401, answer.body
        assert answer.json()["type"].endswith("TokenVerifierError")
    assert {r["issuer"] for r in service.records("attest-refused") if "issuer" in r} == {"coco"}
    assert len(service.records("release")) == 1
    guest.close()
