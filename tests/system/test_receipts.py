"""Receipts through a whole service, over every road on which something leaves: verified here by libraries that share no code
with ours (jwcrypto; cbor2 and cryptography), by kbs-admin, and by kbs-guest, which refuses to go without one where its
measured configuration names the key."""
import base64
import hashlib
import http.client
import http.server
import json
import os
import subprocess
import threading
import urllib.parse

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from jwcrypto import jwk, jws

from kbsguest import Guest, b64u, jcs, random_nonce, unb64u
from machine import KEEPS, make
from service import BIN, run
from test_nek import recipe, rewrap

OPS = {"key": 1, "resource": 2, "rewrap": 3, "first boot": 4, "next boot": 4}
NAMES = {1: "release", 2: "open-secret", 3: "rewrap-nek", 4: "provision"}
DEEDS = {**{road: NAMES[op] for road, op in OPS.items()}, "next boot": "reprovision"}
LABELS = ["v", "time", "op", "kid", "key_id", "key_version", "card", "policy", "wrap_locality", "format", "token_class",
          "token_serial", "tee_key", "answer", "judge"]
JUDGE = ["binding", "nonce", "report_data", "resource_policy"]
LOCALITIES = ["none", "worker", "transport", "token"]
FORMATS = ["none", "jose", "cose", "jwe"]
CLASSES = ["unknown", "software", "hardware-host-assisted", "hardware"]
BINDINGS = ["none", "token", "session", "evidence", "hardware", "full"]


def receipt_key(service):
    """From the pinned file, and the same from the published set."""
    pem = (service.folder / "admin" / "receipt.pub.pem").read_bytes()
    key = jwk.JWK.from_pem(pem)
    published = Guest(service.guest_url, service.ca).http.request("GET", "/.well-known/kbs-receipt-jwks.json").json()
    assert [k["kid"] for k in published["keys"]] == [key.thumbprint()]
    assert jwk.JWK(**published["keys"][0]).thumbprint() == key.thumbprint()
    tokens = Guest(service.guest_url, service.ca).http.request("GET", "/.well-known/jwks.json").json()
    assert key.thumbprint() not in [k["kid"] for k in tokens["keys"]]  # no receipt passes for a token
    return pem, key


def open_jws(text, key):
    """By jwcrypto. The payload as JSON."""
    token = jws.JWS()
    token.deserialize(text, key)
    header = json.loads(token.objects["protected"])
    assert header == {"alg": "ES256", "kid": key.thumbprint(), "typ": "kbs-receipt+jws"}
    return json.loads(token.payload)


def open_cose(text, pem, key):
    """By RFC 9052 section 4.4, with cbor2 and cryptography. In the shape of the JWS."""
    message = cbor2.loads(unb64u(text))
    assert message.tag == 18
    protected, unprotected, payload, signature = message.value
    assert unprotected == {} and len(signature) == 64
    assert cbor2.loads(protected) == {1: -7, 4: key.thumbprint().encode(), 16: "application/kbs-receipt+cbor"}
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    serialization.load_pem_public_key(pem).verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    values = cbor2.loads(payload)
    assert list(values) == list(range(1, 16)) and list(values[15]) == [1, 2, 3, 4]
    said = dict(zip(LABELS, values.values()))
    said["judge"] = dict(zip(JUDGE, values[15].values()))
    for of, name, names in ((said, "op", NAMES), (said, "wrap_locality", LOCALITIES), (said, "format", FORMATS),
                            (said, "token_class", CLASSES), (said["judge"], "binding", BINDINGS)):
        of[name] = names[of[name]]
    for name in ("kid", "token_serial"):
        said[name] = said[name].decode()
    for of in (said, said["judge"]):
        of.update({name: b64u(value) for name, value in of.items() if isinstance(value, bytes)})
    return said


def answered(answer, road):
    """What a receipt is of: the body, or the blob and what is for the TEE key, in the bytes of the answer."""
    if OPS[road] != 4:
        return answer.body
    assert answer.json()["created"] == (road == "first boot")
    _, _, members = answer.body.strip().removesuffix(b"}").partition(b',"nek":')
    blob, recipient, to_tee = members.partition(b',"recipient":')
    if not recipient:
        blob, _, cose = members.partition(b',"cose":')
        to_tee = unb64u(json.loads(cose))
    assert json.loads(blob) == answer.json()["nek"] and len(to_tee) > 100
    return len(blob).to_bytes(4, "big") + blob + to_tee


def assert_says(service, said, answer, guest, road, kid, nonce):
    assert said["v"] == 1 and said["op"] == NAMES[OPS[road]] and said["kid"] == kid
    assert said["answer"] == b64u(hashlib.sha256(answered(answer, road)).digest())
    known = {name: guest.jwk()[name] for name in ("crv", "kty", "x", "y")}
    assert said["tee_key"] == b64u(hashlib.sha256(jcs(known)).digest())
    assert said["judge"]["nonce"] == b64u(nonce) and said["judge"]["report_data"] == b64u(guest.digest)
    order, deed = service.records("release")[-1], service.records("deed")[-1]
    assert order["order"] == deed["order"] and deed["op"] == DEEDS[road]
    assert order["policy"] == unb64u(said["policy"]).hex() and order["binding"] == said["judge"]["binding"]
    assert order["tee_key"] == said["tee_key"]
    assert deed["receipt"] == hashlib.sha256(answer.headers["kbs-receipt"].encode()).hexdigest()
    for name in ("wrap_locality", "format", "token_class", "token_serial"):
        assert said[name] == deed[name], name


def altered(text, at):
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1:]


def verify(folder, text, answer, *key):
    """The exit status of kbs-admin receipt verify, and what it printed as JSON."""
    (folder / "receipt").write_text(text + "\n")
    (folder / "answer").write_bytes(answer)
    done = run(BIN / "kbs-admin", "--json", "receipt", "verify", folder / "receipt", "--answer", folder / "answer", *key,
               check=False)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


def test_every_road_by_independent_libraries(service, tmp_path):
    pem, key = receipt_key(service)
    service.generate("default/key/k")
    service.generate("default/nek/k", "--purpose", "nek", "--alg", "P-256")
    (tmp_path / "secret").write_bytes(b"what nobody may read")
    service.admin("secret", "set", "default/secret/s", "--file", tmp_path / "secret", "--policy", service.policy_file())
    make(service, "default/nek/vm", "P-256", KEEPS)
    blob = recipe(tmp_path, service, "default/nek/k", os.urandom(32))
    guest = Guest(service.guest_url, service.ca, "P-384").handshake()
    pinned = ("--key", service.folder / "admin" / "receipt.pub.pem")
    jwks = tmp_path / "jwks.json"
    jwks.write_bytes(guest.http.request("GET", "/.well-known/kbs-receipt-jwks.json").body)

    def get_resource(accept, nonce, query):
        return guest.http.request("GET", "/kbs/v0/resource/default/secret/s" + query, None, guest.cookies())

    def provision(accept, nonce, query):
        body = {"key": "default/nek/vm", "format": "cose" if accept == "application/cose" else "jose", "nonce": b64u(nonce)}
        return guest.http.request("POST", "/kbs/v0/key/provision" + query, json.dumps(body),
                                  {"Content-Type": "application/json", **guest.cookies()})

    def first_boot(accept, nonce, query):
        for kept in service.admin_json("kept", "list", "default/nek/vm")["kept"]:
            service.admin("kept", "forget", "default/nek/vm", kept["identity"])
        return provision(accept, nonce, query)

    roads = {
        "key": ("default/key/k/v1", lambda accept, nonce, query: guest.get_key("default/key/k", accept, nonce, None, query)),
        "rewrap": ("default/nek/k/v1",
                   lambda accept, nonce, query: rewrap(guest, {"recipient": blob}, accept, nonce, query)),
        "resource": ("default/secret/s/v1", get_resource),
        "first boot": ("default/nek/vm/v1", first_boot),
        "next boot": ("default/nek/vm/v1", provision),
    }
    kept = []
    for road, (kid, ask) in roads.items():
        for accept in ("application/jose+json", "application/cose") if road != "resource" else ("application/json",):
            nonce = random_nonce() if road != "resource" else bytes(32)
            plain = ask(accept, nonce, "")
            assert plain.status == 200 and "kbs-receipt" not in plain.headers
            assert "receipt" not in service.records("deed")[-1]
            assert ask(accept, nonce, "?receipt=yes").status == 400
            answer = ask(accept, nonce, "?receipt=1")
            assert answer.status == 200, answer.body
            text, of = answer.headers["kbs-receipt"], answered(answer, road)
            assert len(text) <= 3072
            cose = accept == "application/cose"
            said = open_cose(text, pem, key) if cose else open_jws(text, key)
            assert_says(service, said, answer, guest, road, kid, nonce)
            kept.append((text, of, said))

            status, shown = verify(tmp_path, text, of, *pinned)
            assert status == 0, shown
            assert shown["form"] == ("COSE_Sign1" if cose else "JWS") and shown["signed_by"] == key.thumbprint()
            assert shown["kid"] == kid and shown["judge"]["nonce"] == nonce.hex() and shown["tee_key"] == said["tee_key"]
            assert shown["receipt"] == service.records("deed")[-1]["receipt"]
            assert verify(tmp_path, text, of, "--jwks", jwks)[0] == 0

            # of another answer, altered, by another key
            assert verify(tmp_path, text, answered(plain, road), *pinned)[0] == 1
            for at in range(0, len(text), 37):
                with pytest.raises(Exception):  # of whichever library, or our own assertion
                    open_cose(altered(text, at), pem, key) if cose else open_jws(altered(text, at), key)
            for at in (0, len(text) // 3, len(text) // 2, len(text) - 50, len(text) - 1):
                assert verify(tmp_path, altered(text, at), of, *pinned)[0] != 0
            assert verify(tmp_path, text, of, "--key", service.folder / "admin" / "row.pub.pem")[0] == 3
    assert len({said["answer"] for _, _, said in kept}) == len(kept) == 9
    assert verify(tmp_path, kept[0][0], kept[1][1], *pinned)[0] == 1  # stapled
    done = service.admin("receipt", "verify", tmp_path / "receipt", "--answer", tmp_path / "answer", check=False)
    assert done.returncode == 1  # by the key that the profile pins
    shown = run(BIN / "kbs-admin", "receipt-key", "show", "--profile", service.folder / "admin" / "profile.json", "--url",
                service.admin_url).stdout
    assert shown.encode() == pem
    assert service.admin("receipt-key", "make", check=False).returncode == 6  # there is one
    assert service.admin("audit", "verify", service.ledger_path).returncode == 0


class Meddler(http.server.ThreadingHTTPServer):
    """Carries requests to the service's plain listener, and does to the receipts of the answers what it is told."""

    def __init__(self, url, change):
        super().__init__(("127.0.0.1", 0), MeddlerHandler)
        self.upstream = urllib.parse.urlsplit(url)
        self.change = change
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class MeddlerHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def carry(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        up = http.client.HTTPConnection(self.server.upstream.hostname, self.server.upstream.port, timeout=30)
        up.request(self.command, self.path, body or None, dict(self.headers))
        answer = up.getresponse()
        text = answer.read()
        headers = dict(answer.getheaders())
        if "Kbs-Receipt" in headers:
            headers["Kbs-Receipt"], text = self.server.change(headers["Kbs-Receipt"], text)
        self.send_response_only(answer.status)
        for name, value in headers.items():
            if value and name != "Content-Length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        up.close()

    do_GET = do_POST = carry

    def log_message(self, *_):
        pass


def guest_run(*argv):
    return run(BIN / "kbs-guest", *argv, check=False)


def test_a_guest_whose_configuration_names_the_key(make_service, tmp_path):
    """It goes without options by what is in its init-data, and not at all without a receipt that holds."""
    service = make_service("softhsm")
    service.add_plain_listener()
    service.start()
    pem = service.folder / "admin" / "receipt.pub.pem"
    service.generate("default/key/k")
    make(service, "default/nek/k", "P-256", KEEPS)
    (tmp_path / "secret").write_bytes(b"what nobody may read")
    service.admin("secret", "set", "default/secret/s", "--file", tmp_path / "secret", "--policy", service.policy_file())
    (tmp_path / "blob").write_text(json.dumps(recipe(tmp_path, service, "default/nek/k", os.urandom(32))))
    (tmp_path / "aa.toml").write_text("[data]\n\"kbs-guest.json\" = 'not this one'\n")
    asks = (("get-key", "default/key/k"), ("get-key", "default/key/k", "--cose"), ("get-resource", "default/secret/s"),
            ("rewrap", tmp_path / "blob"), ("rewrap", tmp_path / "blob", "--cose", "--context-none"),
            ("provision", "default/nek/k"), ("provision", "default/nek/k", "--cose"))  # a first boot, and its repeats

    def configured(name, *options):
        path = tmp_path / name
        shown = run(BIN / "kbs-admin", "initdata", "make", f"aa.toml={tmp_path / 'aa.toml'}", *options, "--out", path).stdout
        digest = hashlib.sha384(path.read_bytes()).hexdigest()
        assert f"digest            {digest}" in shown and f"tdx mrconfigid    {digest}" in shown
        return path

    # everything from the init-data: URL, TLS pin (and no CA), receipt key
    good = configured("good.toml", "--kbs-url", service.guest_url, "--tls-cert", service.ca, "--receipt-key", pem)
    spki = serialization.load_pem_public_key(subprocess.run(
        ["openssl", "x509", "-in", service.ca, "-noout", "-pubkey"], capture_output=True, check=True).stdout).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert base64.b64encode(hashlib.sha256(spki).digest()).decode() in good.read_text()
    for i, ask in enumerate(asks):
        kept, body = tmp_path / f"receipt{i}", tmp_path / f"body{i}"
        keep = "--recipient-out" if ask[0] == "get-key" else "--answer-out"
        done = guest_run(*ask, "--init-data", good, "--receipt-out", kept, keep, body)
        assert done.returncode == 0, (ask, done.stderr)
        assert verify(tmp_path, kept.read_text(), body.read_bytes(), "--key", pem)[0] == 0
        assert guest_run(*ask, "--init-data", good).returncode == 0  # checked, and not kept
    before = len(service.records("deed"))
    for options, status, why in (
            (["--url", "https://localhost:1"], 2, "not the one in the init-data"),
            (["--receipt-key", service.folder / "admin" / "row.pub.pem"], 2, "not the one in the init-data")):
        done = guest_run("get-key", "default/key/k", "--init-data", good, *options)
        assert done.returncode == status and why in done.stderr
    other_pin = "sha256//" + base64.b64encode(bytes(32)).decode()
    pinned = configured("pin.toml", "--kbs-url", service.guest_url, "--tls-pin", other_pin)
    assert guest_run("get-key", "default/key/k", "--init-data", pinned).returncode == 3
    assert guest_run("get-key", "default/key/k", "--init-data", pinned, "--ca", service.ca).returncode == 3
    other_key = configured("key.toml", "--kbs-url", service.guest_url, "--tls-cert", service.ca, "--receipt-key",
                           service.folder / "admin" / "row.pub.pem")
    assert len(service.records("deed")) == before
    done = guest_run("get-key", "default/key/k", "--init-data", other_key, "--out", tmp_path / "never")
    assert done.returncode == 3 and "not signed by the key" in done.stderr and not (tmp_path / "never").exists()

    # a proxy that takes the receipt away, alters it, staples another's, or changes what it is of
    stapled = (tmp_path / "receipt0").read_text()
    for change, status, why in (
            (lambda text, body: ("", body), 3, "no receipt"),
            (lambda text, body: (altered(text, len(text) // 2), body), 3, ""),
            (lambda text, body: (altered(text, len(text) - 20), body), 3, "not signed by the key"),
            (lambda text, body: (stapled, body), 1, "of another answer")):
        meddler = Meddler(service.plain_url, change)
        try:
            through = configured(f"through-{meddler.server_address[1]}.toml", "--kbs-url", meddler.url, "--receipt-key", pem)
            for ask in asks:
                outs = ("--out", "--nek-out", "--answer-out") if ask[0] == "provision" else ("--out",)
                done = guest_run(*ask, "--init-data", through, *(word for out in outs for word in (out, tmp_path / "never")))
                assert done.returncode == status and why in done.stderr, (ask, done.stderr)
                assert not (tmp_path / "never").exists()
        finally:
            meddler.shutdown()
            meddler.server_close()
    # without the key in the init-data nobody has to look
    assert guest_run("get-key", "default/key/k", "--url", service.plain_url, "--receipt-key", pem).returncode == 0
    assert guest_run("get-key", "default/key/k", "--url", service.plain_url, "--receipt-out", tmp_path / "x").returncode == 2
