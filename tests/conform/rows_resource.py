"""Rows of the conformance table about endpoints, errors, answers and what clients do with them."""
import json
import os
import pathlib
import re
import socket
import ssl
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from jwcrypto import jwe, jwk

from guest import Attester, KbsError, NotFound, SampleTee, Unauthorized, error_information, resource_target
from kbs_client import AFFIRMING, ALLOW_ALL, DENY_ALL
from rows_handshake import KEYS, PATH, RESOURCE, attested, claims_of, post, refused
from table import row
from teekey import MEMBERS, b64u, compact, header_as_clients_print_it, unb64u
from world import BIN, run

NO_PATH = "shop/conform/nothing"
REGO = (BIN / "kbs-policy").exists()  # not built where there is no cargo


# ---- 1.1 endpoints

@row("1.1 Endpoints", "POST auth: 200, JSON, a cookie")
def endpoint_auth(world):
    guest = world.attester()
    answer = post(guest, "auth", guest.request())
    assert answer.status == 200 and answer.header("content-type") == "application/json"
    assert answer.header("set-cookie").startswith("kbs-session-id=")


@row("1.1 Endpoints", "POST attest: 200, JSON with the token")
def endpoint_attest(world):
    guest = world.attester()
    answer = post(guest, "attest", guest.attestation(guest.auth()))
    assert answer.status == 200 and answer.header("content-type") == "application/json"
    assert json.loads(answer.body)["token"].count(".") == 2


@row("1.1 Endpoints", "GET resource: 200, JSON, no cookie")
def endpoint_resource(world):
    world.put(PATH, b"value")
    answer = attested(world).http.request("GET", RESOURCE)
    assert answer.status == 200 and answer.header("content-type") == "application/json" and answer.header("set-cookie") is None


@row("1.1 Endpoints", "POST resource: raw bytes, 200, empty body; another value replaces it")
def endpoint_set(world):
    guest = attested(world)
    for value in (bytes(range(256)), b"\0", b"{}", b"x" * 65536):
        answer = world.client().set_resource(PATH, value)
        assert answer.body == b"" and guest.get_resource(PATH) == value


@row("1.1 Endpoints", "DELETE resource: 200, empty body; then nobody gets it")
def endpoint_delete(world):
    path = "shop/conform/deleted"
    world.put(path, b"gone soon")
    guest = attested(world)
    assert guest.get_resource(path) == b"gone soon"
    assert world.client().delete_resource(path).body == b""
    try:
        guest.get_resource(path)
        raise AssertionError("a deleted resource came back")
    except NotFound:
        pass


@row("1.1 Endpoints", "GET resource as a list: a JSON array of paths")
def endpoint_list(world):
    world.put("shop/conform/listed", b"x")
    answer = world.client().list_resources()
    listed = json.loads(answer.body)
    assert answer.header("content-type") == "application/json"
    assert "shop/conform/listed" in [entry.strip("/").removeprefix("kbs:///") for entry in listed]
    assert all(isinstance(entry, str) for entry in listed)


@row("1.1 Endpoints", "POST and GET resource-policy: stored; the list of ids")
def endpoint_resource_policy(world):
    other = world.strict()
    other.client().set_resource_policy(ALLOW_ALL)
    answer = other.client().list_resource_policies()
    assert json.loads(answer.body) == ["resource-policy"] and answer.header("content-type") == "application/json"


@row("3.2 Resource policy", "a resource without a policy of its own is released as the resource policy in Rego says", differs="rego")
def rego_decides(world):
    other = world.strict()
    other.put(PATH, b"x")
    for policy, status in ((ALLOW_ALL, 200), (DENY_ALL, 403), (AFFIRMING, 403), (ALLOW_ALL, 200)):
        other.client().set_resource_policy(policy)
        status = status if REGO else 501
        try:
            assert (attested(other).get_resource(PATH), status) == (b"x", 200)
        except KbsError as error:
            assert error.status == status and "policy" in error.detail


@row("3.2 Resource policy", "text that is no policy: refused when it is set, with its place", differs="rego")
def rego_is_parsed(world):
    answer = world.strict().client().send("POST", "/kbs/v0/resource-policy", json.dumps(
        {"policy": b64u(b"package policy\n\nallow if {\n")}).encode(), "application/json")
    if REGO:
        refused(answer, 422)
        assert b"line 4" in answer.body
    else:
        assert answer.status == 200


ATTESTATION = """package policy
import rego.v1
default executables := 33
executables := 3 if input.sample.launch_digest in query_reference_value("conform_digest")
trust_claims := {"executables": executables, "hardware": 2, "configuration": 2, "file-system": 0}
"""


@row("1.1 Endpoints", "POST attestation-policy: 200")
def endpoint_attestation_policy(world):
    client = world.client()
    try:
        assert client.set_attestation_policy('package policy\n\ntrust_claims := {"executables": 33}\n').status == 200
    finally:
        client.set_attestation_policy("")  # takes it back


@row("3.3 Attestation policy", "its trust claims, by reference values, are the token's; the worst of them is the status")
def attestation_policy_decides(world):
    if not REGO:
        return
    client = world.client()
    try:
        client.set_attestation_policy(ATTESTATION)
        for digest, status in (("other", "warning"), ("abcde", "affirming")):
            client.set_sample_reference_value("conform_digest", [digest])
            cpu = claims_of(attested(world).token)["submods"]["cpu0"]
            assert cpu["ear.status"] == status
            assert cpu["ear.trustworthiness-vector"]["executables"] == (3 if status == "affirming" else 33)
    finally:
        client.set_attestation_policy("")


@row("3.3 Attestation policy", "a policy that gives no vector refuses the evidence", differs="appraisal")
def attestation_policy_without_a_vector(world):
    if not REGO:
        return
    client = world.client()
    try:
        client.set_attestation_policy("package policy\n\ntrust_claims := \"none\"\n")
        guest = world.attester()
        refused(post(guest, "attest", guest.attestation(guest.auth())), 401)
    finally:
        client.set_attestation_policy("")


@row("3.3 Attestation policy", "text that is no policy: refused when it is set, with its place", differs="rego")
def attestation_policy_is_parsed(world):
    answer = world.client().send("POST", "/kbs/v0/attestation-policy", json.dumps(
        {"policy_id": "default_cpu", "policy": b64u(b"package policy\n\ntrust_claims := {\n")}).encode(), "application/json")
    if REGO:
        refused(answer, 422)
        assert b"line 4" in answer.body
    else:
        assert answer.status == 200
        world.client().set_attestation_policy("")


@row("1.1 Endpoints", "POST and GET reference-value: what was set comes back; ids with slashes")
def endpoint_reference_value(world):
    for name, value in (("launch_digest", ["abcd"]), ("svn", 1), ("flag", True), ("a/b/c", ["x"])):
        world.client().set_sample_reference_value(name, value)
        assert json.loads(world.client().get_reference_value(name).body) == value


@row("1.1 Endpoints", "GET of a reference value that is not there", differs="statuses")
def endpoint_reference_value_missing(world):
    refused(world.client().send("GET", "/kbs/v0/reference-value/nobody-set-this"), 404)


@row("1.1 Endpoints", "the paths of the pkcs11 plugin are the same resources")
def endpoint_pkcs11(world):
    client = world.client()
    target = "/kbs/v0/pkcs11/resource/shop/conform/hsm"
    assert client.ask("POST", target, b"by its other name", "application/octet-stream").body == b""
    guest = attested(world)
    assert guest.get_resource("kbs+pkcs11:///resource/shop/conform/hsm") == b"by its other name"
    assert guest.get_resource("shop/conform/hsm") == b"by its other name"
    assert client.ask("DELETE", target).body == b""
    assert guest.http.request("GET", target).status == 404


@row("1.1 Endpoints", "a plugin that is not there: 404 InvalidRequestPath", differs="statuses")
def endpoint_no_plugin(world):
    guest = attested(world)
    for target in ("/kbs/v0/nebula-ca/credential?name=x", "/kbs/v0/nothing/a/b", "/kbs/v0/pkcs11/unwrap-key"):
        refused(guest.http.request("GET", target), 404, "InvalidRequestPath")


@row("1.1 Endpoints", "GET /metrics: Prometheus text, no resource's name in it; POST: 405", differs="metrics")
def endpoint_metrics(world):
    world.put("shop/conform/canary", b"x")
    guest = attested(world)
    assert guest.get_resource("shop/conform/canary") == b"x"
    answer = guest.http.request("GET", "/metrics")
    assert answer.status == 200 and answer.header("content-type").startswith("text/plain")
    assert b"# TYPE" in answer.body and b"canary" not in answer.body
    assert guest.http.request("POST", "/metrics", b"").status == 405


METRICS = ("kbs_build_info", "kbs_http_requests_total", "kbs_http_request_duration_seconds", "kbs_http_request_size_bytes",
           "kbs_http_response_size_bytes", "kbs_http_active_connections", "kbs_auth_requests_total",
           "kbs_auth_successes_total", "kbs_auth_errors_total", "kbs_attestation_requests_total",
           "kbs_attestation_successes_total", "kbs_attestation_failures_total", "kbs_attestation_errors_total",
           "kbs_resource_reads_total", "kbs_resource_writes_total", "kbs_resource_deletes_total")


def counted(answer, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in answer.body.decode().splitlines() if re.match(rf"{name}[ {{]", line))


@row("1.1 Endpoints", "metrics have Trustee's names, and count")
def endpoint_metrics_names(world):
    guest, admin = world.attester(), world.anonymous()
    ask = ((guest.http.request, "kbs_resource_reads_total"), (guest.http.request, "kbs_attestation_successes_total"),
           (admin.http.request, "kbs_resource_writes_total"))
    before = [counted(request("GET", "/metrics"), name) for request, name in ask]
    world.put(PATH, b"counted")
    assert guest.get_resource(PATH) == b"counted"
    after = [counted(request("GET", "/metrics"), name) for request, name in ask]
    assert [b - a for a, b in zip(before, after)] == [1, 1, 1]
    text = guest.http.request("GET", "/metrics").body.decode()
    assert [name for name in METRICS if f"# TYPE {name} " not in text] == []


@row("1.1 Endpoints", "GET /healthz: 200, empty")
def endpoint_healthz(world):
    answer = world.attester().http.request("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"")


@row("1.1 Endpoints", "methods that the protocol has not: 405")
def endpoint_methods(world):
    guest = world.attester()
    for method in ("PATCH", "HEAD", "OPTIONS", "PUT"):
        assert guest.http.request(method, RESOURCE).status == 405, method


@row("1.1 Endpoints", "administrators' requests are not answered where guests ask", differs="admin-listener")
def endpoint_guest_listener(world):
    guest = world.attester()
    token = {"authorization": "Bearer " + world.issuer.token(), "content-type": "application/octet-stream"}
    refused(guest.http.request("POST", RESOURCE, b"x", token), 405)
    assert guest.http.request("DELETE", RESOURCE, headers=token).status == 405
    for name in ("resource-policy", "attestation-policy", "reference-value"):
        refused(guest.http.request("POST", "/kbs/v0/" + name, b"{}", token), 404, "InvalidRequestPath")


@row("1.1 Endpoints", "a body of 2 MiB and more: 413, in the shape of an error", differs="sizes")
def endpoint_body_limit(world):
    guest = world.attester()
    message = guest.attestation(guest.auth())
    message["init-data"] = {"format": "toml", "body": "x" * (2 << 20)}
    refused(post(guest, "attest", message), 413)


@row("1.1 Endpoints", "a value over 128 KiB: 413", differs="sizes")
def endpoint_value_limit(world):
    client = world.client()
    limit = 131072
    client.set_resource(PATH, b"x" * limit)
    assert attested(world).get_resource(PATH) == b"x" * limit
    answer = client.send("POST", RESOURCE, b"x" * (limit + 1), "application/octet-stream")
    refused(answer, 413)


@row("1.1 Endpoints", "devices' evidence over 1 MiB: 413", differs="sizes")
def endpoint_device_limit(world):
    guest = world.attester(tee=SampleTee(device=True))
    small = guest.tee.devices
    for more, status in ((1 << 19, 200), (1 << 20, 413)):
        guest.tee.devices = lambda data, more=more: {"sampledevice": small(data)["sampledevice"] | {"certs": "x" * more}}
        assert post(guest, "attest", guest.attestation(guest.auth())).status == status


@row("1.11 Token use", "the token of devices with much evidence is a Bearer token like any other")
def long_evidence(world):
    value = world.put(PATH, b"to a guest with devices")
    guest = world.attester(tee=SampleTee(device=True))
    small = guest.tee.devices
    for more in (6000, 20000, 1 << 19):
        guest.tee.devices = lambda data, more=more: {"sampledevice": small(data)["sampledevice"] | {"certs": "x" * more}}
        guest.handshake()
        assert guest.get_resource(PATH) == value
        answer = world.attester().http.request("GET", RESOURCE, headers={"authorization": "Bearer " + guest.token})
        assert answer.status == 200


@row("1.1 Endpoints", "an empty value: 400", differs="sizes")
def endpoint_empty_value(world):
    refused(world.client().send("POST", RESOURCE, b"", "application/octet-stream"), 400)


@row("1.1 Endpoints", "a query of a resource: 400", differs="query")
def endpoint_query(world):
    world.put(PATH, b"x")
    refused(attested(world).http.request("GET", RESOURCE + "?version=1"), 400)


@row("1.1 Endpoints", "a value is nowhere in the store in the clear", differs="sealed")
def endpoint_sealed(world):
    value = world.put(PATH, b"canary:" + os.urandom(16).hex().encode())
    for file in world.service.store_path.parent.iterdir():
        assert value not in file.read_bytes(), file


# ---- 1.2 errors

@row("1.2 Errors", "the body is {type, detail} with the protocol's type, for every refusal")
def error_shape(world):
    guest = attested(world)
    anonymous = world.attester()
    for answer in (anonymous.http.request("GET", RESOURCE), post(anonymous, "auth", b"{"), post(anonymous, "attest", b"{}"),
                   guest.http.request("GET", "/kbs/v0/nothing"), guest.http.request("GET", "/kbs/v0/resource/" + NO_PATH),
                   guest.http.request("PATCH", RESOURCE), guest.http.request("GET", "/kbs/v0/resource/a/b"),
                   world.anonymous().send("DELETE", RESOURCE)):
        assert answer.status >= 400
        error = error_information(answer)
        assert error["type"].rsplit("/", 1)[1] and error["detail"]
        assert set(json.loads(answer.body)) == {"type", "detail"}


@row("1.2 Errors", "malformed JSON in auth or attest: 400", differs="statuses")
def error_malformed(world):
    guest = world.attester()
    guest.auth()
    for name in ("auth", "attest"):
        refused(post(guest, name, b'{"version":'), 400, "AttestationError")


@row("1.2 Errors", "attested, and the policy says no: 403 PolicyDeny", differs="statuses")
def error_denied(world):
    other = world.without_policy()
    other.put(PATH, b"for nobody")
    try:
        attested(other).get_resource(PATH)
        raise AssertionError("released without a policy")
    except KbsError as error:
        assert (error.status, error.variant) == (403, "PolicyDeny")


@row("1.2 Errors", "attested, and there is no such resource: 404", differs="statuses")
def error_missing(world):
    refused(attested(world).http.request("GET", "/kbs/v0/resource/" + NO_PATH), 404)


@row("1.2 Errors", "a path that is none: refused, with and without a session")
def error_path(world):
    guest = attested(world)
    for path in ("../a/b", ".a/b/c", "a//c", "a/b", "a/b/c/d", "a/b/%2e%2e", "a/b/c%2fd", "a/b/c%00"):
        answer = guest.http.request("GET", "/kbs/v0/resource/" + path)
        assert answer.status in (400, 404), (path, answer.status)
        assert world.attester().http.request("GET", "/kbs/v0/resource/" + path).status in (400, 401, 404)


@row("1.2 Errors", "paths that Trustee takes are taken (1.ok/2ok./3...)")
def error_path_good(world):
    guest = attested(world)
    for path in ("1.ok/2ok./3...", "_a/-b/c_-.d", "A/b/C"):
        world.put(path, path.encode())
        assert guest.get_resource(path) == path.encode()


# ---- 1.12 the answer

def jwe_row(kind, make):
    @row("1.12 Response", f"{kind}: the JWE of RFC 7516, its header as clients print it again",
         differs={"EC P-384": "more-keys", "RSA-OAEP, 2048 bits": "more-keys"}.get(kind))
    def check(world):
        value = world.put(PATH, b"in a JWE")
        guest = attested(world, key=make())
        text = guest.http.request("GET", RESOURCE).body
        response = json.loads(text)
        assert list(response) == list(MEMBERS) and compact(response).encode() == text
        assert all(isinstance(part, str) and "=" not in part for part in response.values())
        header, aad = header_as_clients_print_it(response["protected"])
        assert aad.decode() == response["protected"], "printed again, the header is another"
        alg = guest.key.alg
        assert (header["alg"], header["enc"]) == (alg, "A256GCM")
        assert set(header) == {"alg", "enc"} | ({"epk"} if alg.startswith("ECDH") else set())
        assert [len(unb64u(response[name])) for name in ("iv", "tag")] == [12, 16]
        assert len(unb64u(response["ciphertext"])) == len(value)
        opened_by_jwcrypto(guest.key, text, value)
    return check


def opened_by_jwcrypto(key, text, value):
    """And by a library that keeps to the standard instead."""
    pem = key.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    token = jwe.JWE(algs=[key.alg, "A256GCM"])
    token.deserialize(text.decode(), jwk.JWK.from_pem(pem))
    assert token.payload == value


for _kind, _make in KEYS.items():
    jwe_row(_kind, _make)


@row("1.12 Response", "no aad, apu, apv or kid anywhere; a fresh content key, iv and ephemeral key each time")
def response_fresh(world):
    world.put(PATH, b"twice")
    guest = attested(world)
    answers = [json.loads(guest.http.request("GET", RESOURCE).body) for _ in range(3)]
    for name in MEMBERS:
        assert len({answer[name] for answer in answers}) == 3, name
    headers = [json.loads(unb64u(answer["protected"])) for answer in answers]
    assert all(set(header) == {"alg", "enc", "epk"} and set(header["epk"]) == {"crv", "kty", "x", "y"} for header in headers)


# ---- 1.13 what clients do

@row("1.13 Client", "the resource first, without a cookie: 401, attests, asks again")
def client_order(world):
    value = world.put(PATH, b"third request")
    guest = world.attester()
    assert guest.get_resource(PATH) == value
    assert [(method, target.rsplit("/", 1)[1], status) for method, target, status in guest.http.seen] == [
        ("GET", "secret", 401), ("POST", "auth", 200), ("POST", "attest", 200), ("GET", "secret", 200)]
    guest.http.seen.clear()
    assert guest.get_resource(PATH) == value and len(guest.http.seen) == 1  # the session lives on


@row("1.13 Client", "unattested, 401 for what exists, what does not and what is no path: one answer")
def client_oracle(world):
    world.put(PATH, b"x")
    answers = [world.attester().http.request("GET", "/kbs/v0/resource/" + path) for path in (PATH, NO_PATH, "a/b/.c", "a.b/c.d/e")]
    assert {(a.status, a.body) for a in answers} == {(401, answers[0].body)}


@row("1.13 Client", "a mistyped path costs one attestation, not three: 404 is final", differs="statuses")
def client_mistyped(world):
    guest = world.attester()
    try:
        guest.get_resource(NO_PATH)
        raise AssertionError("there is nothing")
    except NotFound:
        assert [status for _, _, status in guest.http.seen] == [401, 200, 200, 404]


@row("1.13 Client", "a denial is final too, and its body parses", differs="statuses")
def client_denied(world):
    other = world.without_policy()
    other.put(PATH, b"x")
    guest = other.attester()
    try:
        guest.get_resource(PATH)
        raise AssertionError("released without a policy")
    except Unauthorized:
        raise AssertionError("it would attest three times") from None
    except KbsError:
        assert [status for _, _, status in guest.http.seen] == [401, 200, 200, 403]


@row("1.13 Client", "five handshakes of get_token that fail end with the service's reason")
def client_retries(world):
    guest = world.attester()
    guest.tee.primary = lambda _: {"svn": "1", "report_data": ""}
    try:
        guest.get_token()
        raise AssertionError("attested with nothing")
    except KbsError as error:
        assert error.detail.startswith("Attestation error: RCAR handshake Attest failed")
        assert [status for _, _, status in guest.http.seen] == [200, 401] * 5


@row("1.13 Client", "a session that is gone is made again by the 401 (cookie and token)")
def client_again(world):
    value = world.put(PATH, b"again")
    guest = attested(world)
    guest.http.store.cookies.clear()
    assert guest.get_resource(PATH) == value
    holder = world.token_holder(world.attester())
    holder.token, holder.key = "a.b.c", None
    assert holder.get_resource(PATH) == value


@row("1.13 Client", "a cookie that the service does not know any more is as good as none")
def client_stale_cookie(world):
    value = world.put(PATH, b"after a restart")
    guest = world.attester()
    guest.http.store.keep("kbs-session-id=0123456789ab4def8123456789abcdef; Path=/", "/kbs/v0/auth")
    assert guest.get_resource(PATH) == value
    assert [status for _, _, status in guest.http.seen] == [401, 200, 200, 200]


@row("1.13 Client", "the old cookie is sent with a new handshake, and does no harm")
def client_old_cookie(world):
    guest = attested(world)
    first = guest.token
    assert guest.handshake() != first
    world.put(PATH, b"x")
    assert guest.get_resource(PATH) == b"x"


@row("1.13 Client", "one HTTP/1.1 connection for everything")
def client_keep_alive(world):
    world.put(PATH, b"x")
    guest = world.attester()
    guest.http.request("GET", "/healthz")
    used = guest.http.connection.sock
    assert guest.get_resource(PATH) == b"x" and guest.http.connection.sock is used


@row("1.13 Client", "kbs:///a/b/c, kbs+plugin:///path?query and a bare path")
def client_uris(_world):
    assert resource_target("kbs:///a/b/c") == resource_target("a/b/c") == "/kbs/v0/resource/a/b/c"
    assert resource_target("kbs+pkcs11:///resource/a/b/c?v=1") == "/kbs/v0/pkcs11/resource/a/b/c?v=1"


@row("1.13 Client", "offered h2 and http/1.1, HTTP/1.1 is chosen")
def client_alpn(world):
    guest = world.attester()
    guest.http.request("GET", "/healthz")
    assert guest.http.connection.sock.selected_alpn_protocol() in (None, "http/1.1")


@row("1.13 Client", "init's certificate suits rustls: no authority is its own server, addresses as alternative names")
def client_certificate(world):
    made = x509.load_pem_x509_certificate(pathlib.Path(world.ca).read_bytes())
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]


@row("1.13 Client", "more handshakes than one source may begin: 429, Retry-After, the protocol's error", differs="limits")
def client_limited(world):
    guest = world.limited().attester()
    answers = [post(guest, "auth", guest.request()) for _ in range(50)]
    limited = [answer for answer in answers if answer.status != 200]
    assert limited and len(limited) < len(answers)
    for answer in limited:
        refused(answer, 429)
        assert int(answer.header("retry-after")) >= 1


@row("1.13 Client", "TLS 1.2 is refused", differs="tls")
def client_tls(world):
    parts = urllib.parse.urlsplit(world.url)
    context = ssl.create_default_context(cafile=world.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        with socket.create_connection((parts.hostname, parts.port), 30) as raw:
            context.wrap_socket(raw, server_hostname=parts.hostname).close()
        raise AssertionError("TLS 1.2 was taken")
    except (ssl.SSLError, ConnectionResetError):
        pass


@row("1.13 Client", "a guest without TLS, on a plain listener")
def client_plain(world):
    value = world.put(PATH, b"in the clear, wrapped")
    guest = world.keep(Attester(world.plain_url, pause_s=0))
    assert guest.get_resource(PATH) == value


# ---- 3.1 administrators

def denied(answer, reason, status=401, endpoint="resource"):
    detail = refused(answer, status, "AdminAuthAccess")
    assert detail == f"admin access denied for endpoint {endpoint}: Admin access denied: {reason}", detail


@row("3.1 Administrators", "a Bearer token of the identity provider (EdDSA): taken")
def admin_token(world):
    assert world.client().set_resource(PATH, b"by an administrator").status == 200


@row("3.1 Administrators", "no token; expired; another audience, issuer or key: 401, and nothing is changed")
def admin_refused(world):
    world.put(PATH, b"as it was")
    other = type(world.issuer)()
    for client in (world.anonymous(), world.client(exp=1), world.client(exp=None), world.client(aud=["other"]),
                   world.client(iss="other"), world.client(token=other.token()), world.client(token="x.y.z")):
        refused(client.send("POST", RESOURCE, b"changed", "application/octet-stream"), 401)
    assert attested(world).get_resource(PATH) == b"as it was"


@row("3.1 Administrators", "the reason is worded as Trustee words it")
def admin_reason(world):
    other = type(world.issuer)()
    answer = world.client(token=other.token()).send("DELETE", RESOURCE)
    denied(answer, "Cannot verify token with any of the issuers")


@row("3.1 Administrators", "a role and its endpoints; any other: 403, Role <r> not allowed", differs="statuses")
def admin_roles(world):
    writer = world.client(role="writer")
    assert writer.set_resource("shop/conform/by-writer", b"x").status == 200
    denied(writer.send("POST", "/kbs/v0/resource-policy", b"{}", "application/json"), "Role writer not allowed", 403,
           "resource-policy")
    denied(world.client(role="nobody").send("DELETE", RESOURCE), "Role nobody not allowed", 403)


@row("3.1 Administrators", "an attestation token is no administrator's")
def admin_attestation_token(world):
    refused(world.client(token=attested(world).token).send("DELETE", RESOURCE), 401)


@row("3.1 Administrators", "DenyAll: nobody but who signs")
def admin_deny_all(world):
    other = world.mode("DenyAll")
    denied(other.client().send("DELETE", RESOURCE), "DenyAll authorization_mode is enabled")


@row("3.1 Administrators", "InsecureAllowAll: anybody")
def admin_allow_all(world):
    other = world.mode("InsecureAllowAll")
    assert other.anonymous().set_resource(PATH, b"by anybody").status == 200


@row("3.1 Administrators", "production: trustee_compat and the modes are errors of the configuration", differs="signed")
def admin_production(world):
    config = world.service.folder / "kbs.toml"
    other = config.with_name("production.toml")
    other.write_text(config.read_text().replace('mode = "demo"', 'mode = "production"'))
    done = run(BIN / "kbsd", "-c", other, "--check-config", check=False)
    assert done.returncode != 0 and "trustee_compat" in done.stderr and "production" in done.stderr, done.stderr


@row("3.1 Administrators", "Trustee's tokens open none of kbs-admin's requests", differs="signed")
def admin_signed(world):
    for target in ("/kbs/v0/admin/keys", "/kbs/v0/admin/secrets"):
        refused(world.client().send("GET", target), 401)
