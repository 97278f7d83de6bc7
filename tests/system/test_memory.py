"""Memory proof: after 1,000 releases, and some of every other road on which a key or a secret leaves (rewraps, first boots,
wrap-key, id-key, sealed secrets, encrypted requests), no role but kbs-token holds what was released, the PIN, or a key that it
was wrapped or encrypted by on its way in or out, in any mapping, in any of the spellings a careless copy would have. What an
encrypted request says a judge has to read: no role but kbs-token and the judges has it, and a judge at most what it read last.
The private key of TLS, which is in the token, is not in the fronts either. The scan itself is tested: it must find a planted key."""
import base64
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from kbsguest import Guest, b64u, random_nonce, unb64u
from machine import KEEPS, Machine, make
from service import ALLOW_SAMPLE, BIN, ROLES, SANITIZED, run, wait_until
from test_nek import SAMPLE, bind, recipe
from test_protect import Prover, challenge, enveloped, post
from test_secrets import SecretAdmin, get, jwe_parts

RELEASES = 1000
NEKS = 50  # of each other road, each another key
KEY = "default/disk/vm1"
FACES = {"pkcs11": "default/nek/rsa", "id-key": "default/nek/ec"}  # plugins that are the NEK road by older names
BUILD = pathlib.Path(os.environ.get("KBS_BUILD_DIR", BIN.parent))
MEMSCAN = BUILD / "tests" / "bin" / "memscan"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the roles are not dumpable: reading their memory needs root")
needs_plain = pytest.mark.skipif(SANITIZED, reason="terabytes of sanitizer mappings: the proof is about the product as it is built")
pytestmark = [needs_root, needs_plain]


def spellings(secret):
    """Raw, reversed, hex in both cases, base64 in both alphabets at all three alignments."""
    found = {secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode()}
    for data in (secret, secret[::-1]):
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + data)
            start = (shift * 8 + 5) // 6
            end = (shift + len(data)) * 8 // 6
            found.add(text[start:end])
            found.add(text[start:end].replace(b"+", b"-").replace(b"/", b"_"))
    return found


def scan(pid, secrets):
    """Names of the secrets found in any readable mapping of a process, and the bytes looked at."""
    lines = [f"{name} {spelling.hex()}" for name, secret in secrets.items() for spelling in spellings(secret)]
    done = subprocess.run([MEMSCAN, str(pid)], input="\n".join(lines) + "\n", capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    return {name for kind, name in words if kind == "found"}, next(int(n) for kind, n in words if kind == "scanned")


def hold_known_key(service):
    """A TLS key for both listeners that was made here and then put into the token: the only way to know what to look for."""
    tls, token = service.folder / "tls", service.folder / "token"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tls / "key.pem",
        "-subj", "/CN=kbs", "-addext", "subjectAltName=IP:127.0.0.1", "-out", tls / "cert.pem")
    key = serialization.load_pem_private_key((tls / "key.pem").read_bytes(), None)
    if service.token == "softhsm":
        run("softhsm2-util", "--import", tls / "key.pem", "--token", "kbs", "--label", "front", "--id", "0a0b", "--pin",
            (service.folder / "pin").read_text().strip(), env={**os.environ, "SOFTHSM2_CONF": str(token / "softhsm2.conf")})
    else:
        run("openssl", "pkcs12", "-export", "-inkey", tls / "key.pem", "-in", tls / "cert.pem", "-name", "front", "-passout", "pass:",
            "-out", tls / "front.p12")
        run("pk12util", "-i", tls / "front.p12", "-d", f"sql:{token}", "-k", service.folder / "pin", "-W", "")
        (tls / "front.p12").unlink()
    (tls / "key.pem").unlink()
    config = service.folder / "kbs.toml"
    config.write_text(config.read_text().replace('private_key = "tls/key.pem"', 'private_key = "pkcs11:object=front"'))
    return key.private_numbers().private_value.to_bytes(32, "big")


@pytest.fixture
def service(make_service, token):
    made = make_service(token)
    made.tls_key = hold_known_key(made)
    with open(made.folder / "kbs.toml", "a") as config:
        for name, path in FACES.items():
            config.write(f'\n[[plugins]]\nname = "{name}"\nnek_key = "{path}"\n')
    return made.start()


def released(guest, key):
    found = {"released-key": key}
    for i in range(RELEASES):
        if i % 2:
            answer = guest.get_key(KEY, "application/cose")
            kek, opened = guest.open_cose(answer.body, KEY + "/v1")
        else:
            answer = guest.get_key(KEY)
            kek, opened = guest.open_jose(answer.json(), KEY + "/v1")
        assert opened == key
        found[f"wrapping-key-{i}"] = kek
    return found


def neks(service):
    """NEKs that were made, given again and rewrapped, and what they were wrapped by on the way to the guest."""
    path, found = "default/nek/vm", {}
    make(service, path, "P-256", {**KEEPS, "provision": {**KEEPS["provision"], "quota": NEKS}})
    for i in range(NEKS):
        guest = Machine(service, f"svn {i}")
        answer = guest.provision(path)
        blob = answer.json()["nek"]
        keks, keys = zip(guest.provisioned(answer, path + "/v1"), guest.provisioned(guest.provision(path), path + "/v1"),
                         guest.rewrapped(blob, path + "/v1"))
        assert len(set(keys)) == 1
        found[f"nek-{i}"] = keys[0]
        found.update({f"nek-{i}-wrapping-key-{j}": kek for j, kek in enumerate(keks)})
    return found


def of_jwe(name, guest, answer, plain):
    """What a JWE holds, and what holds it."""
    assert answer.status == 200, answer.body
    kek, cek, opened = jwe_parts(guest, answer.json())
    assert opened == plain
    return {name: plain, name + "-wrapping-key": kek, name + "-content-key": cek}


def oaep(jwk, key):
    numbers = rsa.RSAPublicNumbers(*(int.from_bytes(unb64u(jwk[name]), "big") for name in "en"))
    digest = hashes.SHA256() if jwk["alg"] == "RSA-OAEP-256" else hashes.SHA1()
    return numbers.public_key().encrypt(key, padding.OAEP(padding.MGF1(digest), digest, None))


def wrap_keys(service, guest):
    """Keys that came in raw OAEP, and how they left."""
    path, found = FACES["pkcs11"], {}
    service.generate(path, "--purpose", "nek", "--alg", "RSA", "--bytes", "256", "--floor", "worker")
    jwk = guest.http.request("GET", "/kbs/v0/hsm/keys/" + path).json()["jwk"]
    for i in range(NEKS):
        key = os.urandom(32)
        answer = guest.http.request(("GET", "POST")[i % 2], "/kbs/v0/pkcs11/wrap-key", oaep(jwk, key), guest.cookies())
        found.update(of_jwe(f"wrap-key-{i}", guest, answer, key))
    return found


def id_keys(service, guest):
    """Keys that came bound to the guest under an EC key: each at ten boots."""
    path, found = FACES["id-key"], {}
    service.generate(path, "--purpose", "nek", "--alg", "P-256", "--floor", "worker")
    for i in range(NEKS // 10):
        key = os.urandom(32)
        blob = {"recipient": recipe(service.folder, service, path, key, bind(SAMPLE))}
        for j in range(10):
            answer = post(guest, "/kbs/v0/id-key/decrypt", json.dumps(blob))
            found.update(of_jwe(f"id-key-{i}-{j}", guest, answer, key))
    return found


def sealed_secrets(service, guest):
    """Sealed here, so that what they are sealed by is known; each opened ten times."""
    admin, found = SecretAdmin(service), {}
    for i in range(NEKS // 10):
        path, plain = f"default/secret/s{i}", os.urandom(64)
        jwe, kek, cek = admin.sealed(plain, path + "/v1")
        answer = admin.secret("POST", {"jwe": jwe, "policy": ALLOW_SAMPLE}, path)
        assert answer.status == 200, answer.body
        found.update({f"secret-{i}-sealing-key": kek, f"secret-{i}-content-key": cek})
        for j in range(10):
            found.update(of_jwe(f"secret-{i}-{j}", guest, get(guest, path), plain))
    admin.close()
    return found


def protected(service, key):
    """Requests in envelopes, by a guest whose key signs, answered to one-request keys: all of these, and what was said."""
    guest, target = Prover(service.guest_url, service.ca).handshake(), "/kbs/v0/key/" + KEY
    jwk = guest.http.request("GET", "/kbs/v0/hsm/keys").json()["keys"][0]["jwk"]
    found, said = {}, {}
    for i in range(NEKS):
        nonce, fresh = random_nonce(), challenge(guest)
        body, kek, cek = enveloped(jwk, fresh, "POST", target, json.dumps({"nonce": b64u(nonce)}).encode())
        answer = post(guest, target, body, "application/jose+json", **{"Kbs-Proof": guest.prove("POST", target, body, fresh)})
        assert answer.status == 200, answer.body
        one_use, opened = guest.open_jose(answer.json(), KEY + "/v1", nonce)
        assert opened == key
        found.update({f"request-{i}-wrapping-key": kek, f"request-{i}-content-key": cek, f"one-use-wrapping-key-{i}": one_use})
        said[f"request-{i}-nonce"] = nonce
    guest.close()
    return found, said


def test_no_role_but_the_token_worker_holds_a_secret(service):
    key = os.urandom(32)
    service.import_key(KEY, key)
    guest = Guest(service.guest_url, service.ca).handshake()
    for _ in range(NEKS):  # handshakes: every thread of a front has had one signed
        Guest(service.guest_url, service.ca).http.request("GET", "/healthz")
    secrets = {"PIN": (service.folder / "pin").read_bytes().strip(), "TLS-key": service.tls_key, **released(guest, key), **neks(service)}
    for road in wrap_keys, id_keys, sealed_secrets:
        secrets.update(road(service, guest))
    protecting, said = protected(service, key)
    secrets.update({**protecting, **said})
    roles = [(r["role"], r["pid"]) for r in service.roles()] + [("kbsd", service.state()["pid"])]
    assert {name for name, _ in roles} == {"kbsd", *ROLES}
    for role, pid in roles:
        hits, scanned = scan(pid, secrets)
        print(f"{service.token} {role} pid {pid}: {scanned >> 10} KiB scanned, found {sorted(hits)[:5]}")
        assert scanned > 1 << 20
        if role == "kbs-judge" and len(hits & set(said)) == 1:
            hits -= set(said)
        if role != "kbs-token":
            assert not hits, f"{role} holds {sorted(hits)[:5]}"


PLANT = """
import sys
held = bytes.fromhex(sys.stdin.readline())
forms = [bytearray(held), bytearray(held[::-1]), bytearray(held.hex().encode()),
         bytearray(__import__("base64").b64encode(b"x" + held))]
kept = forms[int(sys.argv[1])]
del forms, held
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("form", range(4))
def test_the_scan_finds_a_planted_key(form):
    key = os.urandom(32)
    with subprocess.Popen([sys.executable, "-c", PLANT, str(form)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as child:
        child.stdin.write(key.hex().encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        hits, _ = scan(child.pid, {"planted": key, **{str(i): os.urandom(32) for i in range(1000)}})
        absent, _ = scan(child.pid, {"absent": os.urandom(32)})
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert hits == {"planted"} and not absent


def test_the_scan_finds_what_a_role_has_in_hand(soft):
    """The same scan on a real role: a front holds a request that it is still being told, and forgets it once it is over."""
    cookie = os.urandom(16).hex()
    wanted = {"cookie": cookie.encode()}

    def held():
        return any(scan(pid, wanted)[0] for pid in soft.pids("kbs-front"))

    address = soft.guest_url.split("//")[1].split(":")
    context = ssl.create_default_context(cafile=soft.ca)
    with context.wrap_socket(socket.create_connection((address[0], int(address[1])), 30), server_hostname=address[0]) as client:
        client.sendall(f"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nCookie: kbs-session-id={cookie}\r\n"
                       "Content-Length: 2\r\n\r\n{".encode())
        wait_until(held, 8, "the front has it")
        client.sendall(b"}")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert not held()


def test_the_scan_finds_a_key_of_tls(soft):
    """As OpenSSL holds it: a front whose key is a file has it."""
    key = serialization.load_pem_private_key((soft.folder / "tls" / "key.pem").read_bytes(), None)
    value = key.private_numbers().private_value.to_bytes(32, "big")
    Guest(soft.guest_url, soft.ca).http.request("GET", "/healthz")
    assert all(scan(pid, {"TLS-key": value})[0] for pid in soft.pids("kbs-front"))
