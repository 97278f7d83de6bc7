"""Rows of the conformance table about wrap-key of Trustee's pkcs11 plugin: raw bytes under an RSA key of the HSM, and the way back,
for a guest of SEV-SNP; and about id-key, the same for an EC key. The service is the one of rows_svsm.py."""
import json
import os

from cryptography.hazmat.primitives.asymmetric import ec

from rows_handshake import post, refused
from rows_svsm import ID_KEY, NEK, host_of
from table import row
from teekey import open_response

SECTION = "2.2 wrap-key"
TARGET = "/kbs/v0/pkcs11/wrap-key"
RAW = "application/octet-stream"


def wrapped(host, key, **more):
    return host.world.client(**more).send("POST", TARGET, key, RAW)


def blob_of(host, key):
    answer = wrapped(host, key)
    assert answer.status == 200 and answer.header("content-type") == RAW, answer.body
    return answer.body


@row(SECTION, "POST by an administrator: raw bytes in, an RSA-OAEP blob of the modulus' length out; recorded", differs="wrap-key")
def wrap(world):
    host = host_of(world)
    key = os.urandom(32)
    blobs = {blob_of(host, key) for _ in range(2)}
    assert len(blobs) == 2 and {len(blob) for blob in blobs} == {256}
    record = host.last("nek-wrap")
    assert (record["kid"], record["form"], record["auth"]) == (NEK + "/v1", "plaintext", "bearer")
    for bad in (b"", os.urandom(15), os.urandom(33), os.urandom(72)):  # a key, and not any text
        refused(wrapped(host, bad), 400)


@row(SECTION, "without an administrator's token, by a role that may not, and at the guests' address: refused", differs="admin-listener")
def wrap_refused(world):
    host = host_of(world)
    refused(host.world.anonymous().http.request("POST", TARGET, bytes(32), {"content-type": RAW}), 401)
    refused(wrapped(host, bytes(32), role="writer"), 403)
    guest = host.world.attester()
    refused(guest.http.request("POST", TARGET, bytes(32), {"authorization": "Bearer " + host.world.issuer.token()}), 401)


@row(SECTION, "GET with a body, as Trustee has it, and POST, for proxies that drop it: a JWE of the key")
def unwrap(world):
    host = host_of(world)
    key = os.urandom(32)
    blob = blob_of(host, key)
    for method in ("GET", "POST"):
        svsm = host.booted("key")
        answer = svsm.proxy.http.request(method, TARGET, blob)
        assert answer.status == 200 and answer.header("content-type") == "application/json", answer.body
        assert open_response(svsm.key, answer.body) == key
    record = host.last("release")
    assert (record["kid"], record["bound_to"], record["tee"]) == (NEK + "/v1", "nobody", "snp")
    assert host.last("deed")["op"] == "rewrap-nek" and host.last("deed")["wrap_locality"] == "worker"


@row(SECTION, "without a session: 401; without a body, with one bit changed, of another length: 422")
def unwrap_refused(world):
    host = host_of(world)
    blob = blob_of(host, bytes(32))
    refused(host.proxy().http.request("GET", TARGET, blob), 401)
    svsm = host.booted("key")
    for bad in (None, blob[:-1] + bytes([blob[-1] ^ 1]), blob[:-1], blob + b"\0"):
        refused(svsm.proxy.http.request("POST", TARGET, bad), 422)
    assert svsm.proxy.http.request("POST", TARGET, blob).status == 200  # and the token is none the worse


@row(SECTION, "a guest that the key's policy does not know: 403", differs="wrap-key")
def unwrap_denied(world):
    host = host_of(world)
    guest = host.world.attester()
    guest.handshake()
    refused(guest.http.request("POST", TARGET, blob_of(host, bytes(32))), 403)


@row(SECTION, "a key with a higher floor, where the token cannot wrap by AES-GCM: 501")
def unwrap_guarded(world):
    host = host_of(world)
    blob = blob_of(host, bytes(32))
    service = host.world.service
    service.admin("key", "policy", NEK, "--floor", "transport")
    try:
        assert "GCM-wrap" in refused(host.booted("key").proxy.http.request("POST", TARGET, blob), 501)
    finally:
        service.admin("key", "policy", NEK, "--floor", "worker")
    assert host.booted("key").proxy.http.request("POST", TARGET, blob).status == 200


@row(SECTION, "blobs outlive a rotation of the key")
def rotation(world):
    host = host_of(world)
    key = os.urandom(32)
    old = blob_of(host, key)
    host.world.service.admin("key", "rotate", NEK)
    svsm = host.booted("key")
    for blob in (old, blob_of(host, key)):
        assert open_response(svsm.key, svsm.proxy.http.request("POST", TARGET, blob).body) == key
    assert host.last("nek-wrap")["kid"] == NEK + "/v2"


@row(SECTION, "where no key is configured for it: 404", differs="wrap-key")
def unconfigured(world):
    guest = world.attester()
    guest.handshake()
    refused(guest.http.request("GET", TARGET, b"x"), 404, "PluginNotFound")
    assert post(guest, "pkcs11/wrap-key", {}).status == 404
    refused(world.client().send("POST", TARGET, bytes(32), RAW), 404, "PluginNotFound")


# ---- id-key, whose paths are those of a proposal, and whose bodies are ours

ID = "id-key, as proposed for Trustee"


def registered(host, key):
    answer = host.world.client().send("POST", "/kbs/v0/id-key/register", key, RAW)
    assert answer.status == 200 and answer.header("content-type") == "application/json", answer.body
    return json.loads(answer.body)


@row(ID, "register by an administrator, decrypt by a guest: a JWE of the key; the public half in SEC 1's form")
def id_key(world):
    host = host_of(world)
    point = host.proxy().http.request("GET", "/kbs/v0/id-key/ecdh-pub-sec1").body
    assert ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), point) and len(point) == 97
    key = os.urandom(48)
    blob = registered(host, key)
    svsm = host.booted("key")
    answer = svsm.proxy.http.request("POST", "/kbs/v0/id-key/decrypt", json.dumps({"recipient": blob}).encode())
    assert open_response(svsm.key, answer.body) == key
    assert host.last("release")["kid"] == ID_KEY + "/v1" and host.last("nek-wrap")["kid"] == ID_KEY + "/v1"


@row(ID, "without a session 401, for a guest that the policy does not know 403, of another key 422, no blob 400")
def id_key_refused(world):
    host = host_of(world)
    blob = registered(host, bytes(32))
    body = json.dumps({"recipient": blob}).encode()
    refused(host.proxy().http.request("POST", "/kbs/v0/id-key/decrypt", body), 401)
    guest = host.world.attester()
    guest.handshake()
    refused(guest.http.request("POST", "/kbs/v0/id-key/decrypt", body), 403)
    blob["header"]["kid"] = NEK + "/v1"
    for bad, status in ((json.dumps({"recipient": blob}).encode(), 422), (b"{}", 400), (b"", 400)):
        refused(guest.http.request("POST", "/kbs/v0/id-key/decrypt", bad), status)
    refused(world.attester().http.request("GET", "/kbs/v0/id-key/ecdh-pub-sec1"), 404, "PluginNotFound")
