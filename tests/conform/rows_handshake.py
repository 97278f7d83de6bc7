"""Rows of the conformance table about the handshake: Request, Challenge, Attestation, report data, token, session."""
import base64
import copy
import email.utils
import hashlib
import json
import re
import threading
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from guest import VERSION_MISMATCH, SampleTee, VersionMismatch, error_information, token_lifetime
from table import row
from teekey import EcKey, Refused, RsaKey, b64u, compact, digest, jcs, unb64u

TEES = ("az-snp-vtpm", "az-tdx-vtpm", "nvidia", "sgx", "snp", "tdx", "cca", "csv", "se", "hygondcu", "tpm")
PATH = "shop/conform/secret"
RESOURCE = "/kbs/v0/resource/" + PATH
ERRORS = "https://github.com/confidential-containers/kbs/errors/"


def post(guest, name, message):
    body = message if isinstance(message, bytes) else compact(message).encode()
    return guest.http.request("POST", "/kbs/v0/" + name, body, {"content-type": "application/json"})


def refused(answer, status, variant=None):
    """It is refused with this status, in the protocol's shape."""
    assert answer.status == status, (answer.status, answer.body)
    error = error_information(answer)
    assert error["type"].startswith(ERRORS), error
    if variant is not None:
        assert error["type"] == ERRORS + variant, error
    return error["detail"]


def attested(world, **options):
    guest = world.attester(**options)
    guest.handshake()
    return guest


def message_of(guest):
    return guest.attestation(guest.auth())


def claims_of(token):
    return json.loads(unb64u(token.split(".")[1]))


# ---- 1.3 Request

@row("1.3 Request", "version, tee and extra-params are all required")
def request_members(world):
    guest = world.attester()
    whole = guest.request()
    for name in whole:
        refused(post(guest, "auth", {k: v for k, v in whole.items() if k != name}), 400)
    assert post(guest, "auth", whole).status == 200


@row("1.3 Request", "extra-params as old clients send it (\"\") and with the list of hashes")
def request_extra_params(world):
    guest = world.attester()
    for extra in ("", {}, None, {"supported-hash-algorithms": ["sha256", "sha384", "sha512", "sm3"]}):
        assert post(guest, "auth", guest.request() | {"extra-params": extra}).status == 200, extra


@row("1.3 Request", "every tee of the protocol begins a handshake")
def request_tees(world):
    guest = world.attester()
    for tee in TEES:
        assert post(guest, "auth", guest.request() | {"tee": tee}).status == 200, tee


@row("1.3 Request", "the Azure names of before (azsnpvtpm, aztdxvtpm) too")
def request_old_names(world):
    guest = world.attester()
    for tee in ("azsnpvtpm", "aztdxvtpm"):
        assert post(guest, "auth", guest.request() | {"tee": tee}).status == 200, tee


@row("1.3 Request", "a tee nobody knows: 401")
def request_unknown_tee(world):
    guest = world.attester()
    for tee in ("sev", "SNP", "", "sample "):
        refused(post(guest, "auth", guest.request() | {"tee": tee}), 401, "AttestationError")


# ---- 1.4 versions

@row("1.4 Versions", "0.4.0, and nothing that is only like it (0.4.1, 0.4, 0.3.0, no version at all): 401")
def versions(world):
    guest = world.attester()
    for version in ("0.4.1", "0.4", "0.3.0", "0.1.1", "1.0.0", "", "x", "=0.4.0"):
        detail = refused(post(guest, "auth", guest.request() | {"version": version}), 401, "AttestationError")
        assert VERSION_MISMATCH in detail


@row("1.4 Versions", "the mismatch is worded so that the client recognises it")
def version_mismatch(world):
    guest = world.attester(version="0.3.0")
    try:
        guest.auth()
        raise AssertionError("0.3.0 was taken")
    except VersionMismatch as error:
        assert error.detail == ("Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: "
                                "expect =0.4.0 while the request is 0.3.0")


@row("1.4 Versions", "a guest of 0.2.0 attests and gets its resource", differs="rcar-0.2.0")
def version_0_2_0(world):
    value = world.put(PATH, b"for an older guest")
    assert attested(world, version="0.2.0").get_resource(PATH) == value


# ---- 1.5 Challenge

@row("1.5 Challenge", "nonce: 32 bytes as padded standard base64; extra-params is there")
def challenge(world):
    guest = world.attester()
    seen = set()
    for _ in range(20):
        one = guest.auth()
        assert set(one) == {"nonce", "extra-params"}
        assert re.fullmatch(r"[A-Za-z0-9+/]{43}=", one["nonce"]) and len(base64.b64decode(one["nonce"])) == 32
        seen.add(one["nonce"])
    assert len(seen) == 20


@row("1.5 Challenge", "extra-params is \"\" for an ordinary TEE: SHA-384")
def challenge_plain(world):
    for tee in ("sample", "snp", "tdx"):
        guest = world.attester()
        answer = post(guest, "auth", guest.request() | {"tee": tee})
        assert json.loads(answer.body)["extra-params"] == ""


@row("1.5 Challenge", "se with the list: selected-hash-algorithm is sha512")
def challenge_se(world):
    guest = world.attester()
    answer = post(guest, "auth", guest.request() | {"tee": "se"})
    assert json.loads(answer.body)["extra-params"] == {"selected-hash-algorithm": "sha512"}


@row("1.5 Challenge", "a guest that has no SHA-384 gets a hash that it has", differs="hash-selection")
def challenge_selection(world):
    for name in ("sha256", "sha512", "SHA512"):
        guest = world.attester()
        guest.request = lambda name=name, guest=guest: {
            "version": "0.4.0", "tee": "sample", "extra-params": {"supported-hash-algorithms": [name]}}
        one = guest.auth()
        assert guest.selected_hash(one) == name.lower()
        guest.attest(guest.attestation(one))


# ---- 1.6 Attestation

@row("1.6 Attestation", "init-data null, and not there at all")
def init_data_none(world):
    guest = world.attester()
    message = message_of(guest)
    assert "init-data" in message and message["init-data"] is None
    guest.attest(message)
    message = message_of(guest)
    del message["init-data"]
    guest.attest(message)


@row("1.6 Attestation", "init-data of format toml")
def init_data_toml(world):
    attested(world, init_data='algorithm = "sha384"\nversion = "0.1.0"\n\n[data]\n')


@row("1.6 Attestation", "init-data of any other format is refused")
def init_data_other(world):
    guest = world.attester()
    message = message_of(guest) | {"init-data": {"format": "json", "body": "{}"}}
    assert post(guest, "attest", message).status in (400, 401)


@row("1.6 Attestation", "the nonce has to be the session's, byte for byte")
def nonce_of_session(world):
    guest = world.attester()
    mine = guest.auth()
    other = world.attester().auth()
    refused(post(guest, "attest", guest.attestation(other)), 401)
    spelt_otherwise = mine | {"nonce": mine["nonce"].rstrip("=")}
    refused(post(guest, "attest", guest.attestation(spelt_otherwise)), 401)
    guest.attest(guest.attestation(mine))


@row("1.6 Attestation", "evidence over another key, nonce or nothing does not hold: 401")
def evidence_binds(world):
    guest = world.attester()
    message = message_of(guest)
    for change in ("key", "data", "none"):
        bad = copy.deepcopy(message)
        if change == "key":
            bad["runtime-data"]["tee-pubkey"] = EcKey().jwk()
        elif change == "data":
            bad["tee-evidence"]["primary_evidence"] = SampleTee().primary(bytes(48))
        else:
            bad["tee-evidence"]["primary_evidence"]["report_data"] = ""
        detail = refused(post(guest, "attest", bad), 401, "AttestationError")
        assert detail.startswith("Attestation error: RCAR handshake Attest failed")
    guest.attest(message)


@row("1.6 Attestation", "a sample device beside the TEE (additional_evidence)")
def device(world):
    guest = attested(world, tee=SampleTee(device=True))
    submods = claims_of(guest.token)["submods"]
    assert set(submods) == {"cpu0", "gpu0"}
    assert "sampledevice" in submods["gpu0"]["ear.veraison.annotated-evidence"]


@row("1.6 Attestation", "additional_evidence is hashed as it was sent, spaces and order included")
def device_as_sent(world):
    guest = world.attester()
    runtime = {"tee-pubkey": guest.key.jwk(), "nonce": guest.auth()["nonce"]}
    evidence = SampleTee(device=True).devices(digest("sha384", jcs(runtime)))["sampledevice"]
    text = '{ "sampledevice" :\n\t{"report_data": "%s" , "svn":"2"} }' % evidence["report_data"]
    report_data = digest("sha384", jcs(runtime | {"additional-evidence": text}))
    message = {"init-data": None, "runtime-data": runtime,
               "tee-evidence": {"primary_evidence": SampleTee().primary(report_data), "additional_evidence": text}}
    squeezed = copy.deepcopy(message)
    squeezed["tee-evidence"]["additional_evidence"] = compact(json.loads(text))
    refused(post(guest, "attest", squeezed), 401)
    guest.attest(message)


@row("1.6 Attestation", "a device whose evidence does not hold fails the whole attestation")
def device_fails(world):
    guest = world.attester(tee=SampleTee(device=True))
    guest.tee.devices = lambda _: {"sampledevice": SampleTee().primary(bytes(48))}
    refused(post(guest, "attest", message_of(guest)), 401, "AttestationError")


@row("1.6 Attestation", "real TEEs that are not configured: the handshake begins, and their evidence is refused", differs="verifiers")
def no_verifier(world):
    for tee in TEES:
        guest = world.attester()
        guest.tee.name = tee
        challenge_of_tee = guest.auth()
        refused(post(guest, "attest", guest.attestation(challenge_of_tee)), 401, "AttestationError")


# ---- 1.7 tee-pubkey

KEYS = {
    "EC P-256": lambda: EcKey("P-256"),
    "EC P-384": lambda: EcKey("P-384"),
    "EC P-521": lambda: EcKey("P-521"),
    "RSA-OAEP-256, 2048 bits": lambda: RsaKey("RSA-OAEP-256"),
    "RSA-OAEP-256, 3072 bits": lambda: RsaKey("RSA-OAEP-256", 3072),
    "RSA-OAEP, 2048 bits": lambda: RsaKey("RSA-OAEP"),
    "RSA1_5, 2048 bits": lambda: RsaKey("RSA1_5"),
}


def key_row(kind, make):
    @row("1.7 tee-pubkey", f"{kind}: attests, and opens its resource",
         differs={"EC P-384": "more-keys", "RSA-OAEP, 2048 bits": "more-keys"}.get(kind))
    def check(world):
        value = world.put(PATH, b"to " + kind.encode())
        guest = world.attester(key=make())
        assert guest.get_resource(PATH) == value
        holder = world.token_holder(guest)
        assert holder.get_resource(PATH) == value
    return check


for _kind, _make in KEYS.items():
    key_row(_kind, _make)


@row("1.7 tee-pubkey", "RSA1_5 is refused where it was not switched on", differs="rsa1_5")
def rsa1_5_off(world):
    guest = world.strict().attester(key=RsaKey("RSA1_5"))
    refused(post(guest, "attest", message_of(guest)), 422, "AttestationError")


@row("1.7 tee-pubkey", "coordinates are of full length, base64url without padding")
def coordinates(world):
    guest = world.attester(key=EcKey("P-521"))
    message = message_of(guest)
    for change in (lambda x: "AA" + x, lambda x: x[:-2], lambda x: x + "==", lambda x: base64.b64encode(unb64u(x)).decode() + "=",
                   lambda x: ""):
        bad = copy.deepcopy(message)
        bad["runtime-data"]["tee-pubkey"]["x"] = change(message["runtime-data"]["tee-pubkey"]["x"])
        assert post(guest, "attest", bad).status in (400, 422)
    while True:  # a coordinate with zeros on its left keeps them
        key = EcKey("P-521")
        if unb64u(key.jwk()["x"])[:1] == b"\0" and unb64u(key.jwk()["y"])[0] == 1:
            break
    assert attested(world, key=key)


@row("1.7 tee-pubkey", "alg, crv and coordinates are required")
def jwk_members(world):
    guest = world.attester()
    message = message_of(guest)
    for name in ("kty", "alg", "crv", "x", "y"):
        bad = copy.deepcopy(message)
        del bad["runtime-data"]["tee-pubkey"][name]
        refused(post(guest, "attest", bad), 400)


@row("1.7 tee-pubkey", "unknown members are dropped before hashing")
def unknown_members(world):
    guest = world.attester()
    message = message_of(guest)
    message["runtime-data"]["tee-pubkey"] |= {"kid": "mine", "use": "enc", "key_ops": ["deriveKey"]}
    guest.attest(message)


@row("1.7 tee-pubkey", "a key nothing can be wrapped to is refused when it attests", differs="key-at-attest")
def unusable_keys(world):
    guest = world.attester()
    rsa_key = RsaKey("RSA-OAEP-256").jwk()
    for jwk in ({**guest.key.jwk(), "alg": "ECDH-ES"}, {**guest.key.jwk(), "crv": "secp256k1"}, {**rsa_key, "alg": "RSA-OAEP-512"},
                {"kty": "AKP", "alg": "ML-KEM-768+A192KW", "pub": b64u(bytes(1184))}):
        guest.key.jwk = lambda jwk=jwk: jwk
        refused(post(guest, "attest", message_of(guest)), 422, "AttestationError")


# ---- 1.8 report data

VECTOR_JWK = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
              "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}
VECTOR_NONCE = base64.b64encode(bytes(range(32))).decode()


@row("1.8 Report data", "vector: the attestation service's ({\"b\":1,…})")
def vector_of_service(_world):
    text = jcs(json.loads('{"b":1,"a":"test","c":{"d":"e"}}'))
    assert text == b'{"a":"test","b":1,"c":{"d":"e"}}'
    assert hashlib.sha384(text).hexdigest() == ("e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c"
                                                "4597480a186427c813ca941da78870c3")


@row("1.8 Report data", "vector: a P-256 key and the nonce 00..1f, as primary evidence and as a device")
def vector_of_key(_world):
    runtime = {"tee-pubkey": VECTOR_JWK, "nonce": VECTOR_NONCE}
    assert hashlib.sha384(jcs(runtime | {"additional-evidence": ""})).hexdigest() == (
        "8a6244441b1b1171b3a1d56a693d4ce116c1f9ca1ae558bc5f59d46dada54cf49e92a361ab2472c434652fed5887f16d")
    assert hashlib.sha384(jcs(runtime)).hexdigest() == (
        "90df2d9286ca24c8a886cb47e5ca7eb5f81250b2bf3cae2adb51d1978b49690ab9d4efe1c17385028f91f83d3fef0193")


@row("1.8 Report data", "the service computes what gave both vectors, and nothing near it")
def hashed_alike(world):
    """No vector's nonce can be had from a live service; that this code gave the vectors, and is what attests, joins the two."""
    guest = world.attester()
    runtime = {"tee-pubkey": guest.key.jwk(), "nonce": guest.auth()["nonce"]}
    whole = runtime | {"additional-evidence": ""}
    near = [runtime, whole | {"additional-evidence": None}, {"tee-pubkey": whole["tee-pubkey"]},
            whole | {"tee-pubkey": compact(whole["tee-pubkey"])}]
    wrong = [digest("sha384", jcs(other)) for other in near]
    wrong += [digest(name, jcs(whole)) for name in ("sha256", "sha512")]
    wrong += [digest("sha384", compact(whole).encode()), digest("sha384", json.dumps(whole, sort_keys=True).encode())]
    message = {"init-data": None, "runtime-data": runtime, "tee-evidence": {"additional_evidence": ""}}
    for report_data in wrong:
        message["tee-evidence"]["primary_evidence"] = SampleTee().primary(report_data)
        refused(post(guest, "attest", message), 401)
    message["tee-evidence"]["primary_evidence"] = SampleTee().primary(digest("sha384", jcs(whole)))
    guest.attest(message)


@row("1.8 Report data", "sample evidence carries the digest as it is, not padded to 64 bytes")
def sample_not_padded(world):
    guest = world.attester()
    message = message_of(guest)
    data = base64.b64decode(message["tee-evidence"]["primary_evidence"]["report_data"])
    assert len(data) == 48
    claims = claims_of(guest.attest(message))
    annotated = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    assert base64.b64decode(annotated["report_data"]) == data


# ---- 1.9 token

@row("1.9 Token", "an EAR: ES256, submods.cpu0 with status, vector and annotated evidence")
def ear(world):
    guest = attested(world)
    header = json.loads(unb64u(guest.token.split(".")[0]))
    claims = claims_of(guest.token)
    assert header["alg"] == "ES256"
    assert claims["eat_profile"].startswith("tag:github.com,2024:confidential-containers/Trustee")
    assert set(claims["ear.verifier-id"]) == {"developer", "build"} and isinstance(claims["iss"], str)
    cpu = claims["submods"]["cpu0"]
    assert cpu["ear.status"] in ("none", "affirming", "warning", "contraindicated")
    assert isinstance(cpu["ear.trustworthiness-vector"], dict) and isinstance(cpu["ear.appraisal-policy-id"], str)
    annotated = cpu["ear.veraison.annotated-evidence"]
    assert annotated["sample"]["svn"] == "1"
    assert annotated["runtime_data_claims"]["tee-pubkey"] == guest.key.jwk()
    assert set(annotated["runtime_data_claims"]) == {"tee-pubkey", "nonce", "additional-evidence"}


@row("1.9 Token", "exp is there, minutes ahead, and the client reads it")
def token_expires(world):
    guest = attested(world)
    not_before, expires = token_lifetime(guest.token)
    assert (not_before or 0) <= time.time() < expires <= time.time() + 301
    again, _key = guest.get_token()
    assert again == guest.token  # still valid: no new handshake


@row("1.9 Token", "its key is the one that kid names in /.well-known/jwks.json", differs="token-key")
def token_key(world):
    guest = attested(world)
    head, body, signature = guest.token.split(".")
    header = json.loads(unb64u(head))
    answer = guest.http.request("GET", "/.well-known/jwks.json")
    keys = [k for k in json.loads(answer.body)["keys"] if k["kid"] == header["kid"]]
    assert "jwk" not in header and len(keys) == 1 and keys[0]["crv"] == "P-256"
    x, y = (int.from_bytes(unb64u(keys[0][name]), "big") for name in "xy")
    raw = unb64u(signature)
    ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key().verify(
        utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")),
        f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))


# ---- 1.10 session and cookie

@row("1.10 Session", "cookie kbs-session-id: a UUIDv4 as 32 hex digits, with Expires")
def cookie(world):
    guest = world.attester()
    answer = post(guest, "auth", guest.request())
    pair, *attributes = answer.header("set-cookie").split("; ")
    assert re.fullmatch(r"kbs-session-id=[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", pair)
    expires = [email.utils.parsedate_to_datetime(a[8:]).timestamp() for a in attributes if a.startswith("Expires=")]
    assert len(expires) == 1 and 290 <= expires[0] - time.time() <= 301


@row("1.10 Session", "the cookie goes to every path under /kbs/v0, by the rules of RFC 6265")
def cookie_path(world):
    guest = attested(world)
    for path in ("/kbs/v0/attest", RESOURCE, "/kbs/v0/pkcs11/resource/a/b/c"):
        assert guest.http.store.header(path, is_https=False), path


@row("1.10 Session", "it has Path=/ and HttpOnly", differs="cookie-attributes")
def cookie_attributes(world):
    guest = world.attester()
    attributes = post(guest, "auth", guest.request()).header("set-cookie").split("; ")[1:]
    assert {"Path=/", "HttpOnly"} <= set(attributes) and "Secure" not in attributes


@row("1.10 Session", "attest sets the same cookie again")
def cookie_again(world):
    guest = world.attester()
    message = message_of(guest)
    before = guest.http.store.header("/kbs/v0/attest", False)
    answer = post(guest, "attest", message)
    assert answer.status == 200 and answer.header("set-cookie").split(";")[0] == before
    assert answer.header("content-type") == "application/json" and set(json.loads(answer.body)) == {"token"}


@row("1.10 Session", "a failed attestation does not use up the nonce")
def failed_attest(world):
    guest = world.attester()
    message = message_of(guest)
    bad = copy.deepcopy(message)
    bad["tee-evidence"]["primary_evidence"] = SampleTee().primary(bytes(48))
    refused(post(guest, "attest", bad), 401)
    guest.attest(message)


@row("1.10 Session", "a nonce attests once: the second attestation is refused", differs="nonce-once")
def nonce_once(world):
    guest = world.attester()
    message = message_of(guest)
    guest.attest(message)
    refused(post(guest, "attest", message), 401, "AttestationError")


@row("1.10 Session", "two attestations of one nonce at the same time: exactly one token", differs="nonce-once")
def nonce_once_at_once(world):
    for _ in range(10):
        guest = world.attester()
        message = message_of(guest)
        others = [world.attester() for _ in range(2)]
        statuses = []
        together = threading.Barrier(len(others))

        def attest(other):
            other.http.store.cookies = dict(guest.http.store.cookies)
            together.wait(30)
            statuses.append(post(other, "attest", message).status)

        threads = [threading.Thread(target=attest, args=(other,)) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [200, 401]


@row("1.10 Session", "without a cookie, or with one nobody gave out: 401")
def no_cookie(world):
    guest = world.attester()
    message = message_of(guest)
    guest.http.store.cookies.clear()
    refused(post(guest, "attest", message), 401)
    guest.http.store.keep("kbs-session-id=0123456789ab4def8123456789abcdef", "/kbs/v0/auth")
    refused(post(guest, "attest", message), 401)


# ---- 1.11 token use

@row("1.11 Token use", "the session's cookie, as kbs-client uses it")
def by_cookie(world):
    value = world.put(PATH, b"by cookie")
    assert attested(world).get_resource(PATH) == value


@row("1.11 Token use", "Authorization: Bearer, as the confidential data hub always does")
def by_bearer(world):
    value = world.put(PATH, b"by token")
    holder = world.token_holder(world.attester())
    assert holder.get_resource(PATH) == value
    assert [status for _, _, status in holder.http.seen] == [200]


@row("1.11 Token use", "neither: TokenNotFound, 401")
def by_nothing(world):
    assert refused(world.attester().http.request("GET", RESOURCE), 401, "TokenNotFound") == "Attestation Token not found"


@row("1.11 Token use", "a token that was changed, cut or is none: TokenVerifierError, 401")
def bad_tokens(world):
    guest = attested(world)
    head, body, signature = guest.token.split(".")
    forged = b64u(compact(claims_of(guest.token) | {"exp": 2 ** 33}).encode())
    plain = world.attester()
    for token in (f"{head}.{forged}.{signature}", f"{head}.{body}.", f"{head}.{body}", "x", f"{head}.{body}.{signature[:-4]}AAAA",
                  b64u(b'{"alg":"none"}') + f".{body}."):
        refused(plain.http.request("GET", RESOURCE, headers={"authorization": "Bearer " + token}), 401, "TokenVerifierError")


@row("1.11 Token use", "a token of another KBS is not taken (passport)", differs="passport")
def foreign_token(world):
    guest = attested(world.strict())
    holder = world.attester()
    refused(holder.http.request("GET", RESOURCE, headers={"authorization": "Bearer " + guest.token}), 401, "TokenVerifierError")


@row("1.11 Token use", "cookie and token of two sessions: 401", differs="two-sessions")
def two_sessions(world):
    world.put(PATH, b"x")
    one, two = attested(world), attested(world)
    refused(one.http.request("GET", RESOURCE, headers={"authorization": "Bearer " + two.token}), 401, "TokenVerifierError")
    own = one.http.request("GET", RESOURCE, headers={"authorization": "Bearer " + one.token})
    assert own.status == 200


@row("1.11 Token use", "the wrapping target is the key that attested; no request can name another")
def wrapping_target(world):
    world.put(PATH, b"mine")
    guest = attested(world)
    guest.key = EcKey()
    try:
        guest.get_resource(PATH)
        raise AssertionError("another key opened it")
    except Refused as error:
        assert "does not open" in str(error), error
