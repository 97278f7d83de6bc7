"""TLS as a whole service speaks it: with a key that only the token has, renewed while handshakes go on, with a token that hangs or
dies; with profiles and clients' certificates; and the channel binding of a proof."""
import hashlib
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest

from kbsguest import Guest, b64u, kcv
from service import BIN, run, wait_until
from test_protect import Prover, post

ADMIN = BIN / "kbs-admin"


def tls_admin(service, *argv, check=True):
    return run(ADMIN, "tls", *argv, "--config-file", service.folder / "kbs.toml", check=check)


def selfsigned(service, listener, out, name="kbs"):
    out.unlink(missing_ok=True)
    tls_admin(service, "selfsigned", "--san", "IP:127.0.0.1", "--subject", f"CN={name}", "--listener", listener, "--out", out,
              "--days", "30")


def hold_key(service):
    """A key of the token's for guests, with a certificate of its own. The service is stopped."""
    service.start()
    service.admin("tls", "make-key")
    service.stop()
    service.edit_config(r'(^\[http_server\]\n(?:.*\n)*?)private_key = ".*"\ncertificate = ".*"',
                        r'\1private_key = "pkcs11:"' "\n" 'certificate = "tls/guest.pem"')
    service.admin_ca, service.ca = service.ca, service.folder / "tls" / "guest.pem"
    selfsigned(service, "guest", service.ca)
    return service


def held(make_service, token="softhsm", lanes=1):
    return hold_key(make_service(token, lanes)).start()


def address(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


def connect(url, cafile, version=ssl.TLSVersion.TLSv1_3, seconds=30, certificate=None):
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(*certificate)
    raw = socket.create_connection(address(url), seconds)
    return context.wrap_socket(raw, server_hostname=address(url)[0])


def healthy(client):
    """The status of /healthz on this connection, and the seconds that it took."""
    begun = time.monotonic()
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: kbs\r\n\r\n")
    answer = client.recv(4096)
    return int(answer.split()[1]), time.monotonic() - begun


def serving(url, cafile):
    """The certificate that is served, as its digest."""
    with connect(url, cafile) as client:
        assert healthy(client)[0] == 200
        return hashlib.sha256(client.getpeercert(True)).hexdigest()


def digest(pem):
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.read_text())).hexdigest()


def signers(service):
    return [r["pid"] for r in service.roles() if r["unit"].startswith("sign-guest")]


def test_a_key_that_only_the_token_has(make_service, token):
    service = held(make_service, token)
    assert serving(service.guest_url, service.ca) == digest(service.ca)
    with pytest.raises(ssl.SSLError):
        connect(service.guest_url, service.ca, ssl.TLSVersion.TLSv1_2)
    made = service.generate("default/disk/vm1")
    guest = Guest(service.guest_url, service.ca).handshake()
    assert kcv(guest.open_jose(guest.get_key("default/disk/vm1").json(), "default/disk/vm1/v1")[1]) == made["kcv"]
    # no file that the guests' front is given has it, and the sign worker is a process of its own
    assert "guest.key" not in os.listdir(service.folder / "tls") and len(signers(service)) == 1
    shown = tls_admin(service, "show", "--listener", "guest").stdout
    assert "pkcs11:" in shown
    done = run("openssl", "s_client", "-connect", "%s:%d" % address(service.guest_url), "-CAfile", service.ca,
               "-verify_return_error", stdin=subprocess.DEVNULL)
    assert "Peer signature type: ECDSA" in done.stdout and "Verify return code: 0" in done.stdout
    assert service.stop() == 0
    assert "role-overdue" not in service.log_text()


class Handshakes(threading.Thread):
    """One after the other, each with a request, until it is told to stop. What any of them said is kept."""

    def __init__(self, url, trusted):
        super().__init__(daemon=True)
        self.url, self.trusted, self.seen, self.failed, self.over = url, trusted, {}, [], False
        self.start()

    def run(self):
        while not self.over:
            try:
                found = serving(self.url, self.trusted)
                self.seen[found] = self.seen.get(found, 0) + 1
            except (OSError, ValueError, IndexError) as error:
                self.failed.append(repr(error))


def test_a_renewal_drops_nothing(make_service):
    """Another certificate with another key, twice, under handshakes; and mistakes, which cost nothing."""
    service = held(make_service)
    trusted, fresh = service.folder / "trusted.pem", service.folder / "fresh.pem"
    trusted.write_text(service.ca.read_text())
    certificates = [digest(service.ca)]
    with connect(service.guest_url, trusted) as kept:
        load = [Handshakes(service.guest_url, trusted) for _ in range(2)]
        for curve in ("P-384", "P-256"):
            worker = signers(service)
            service.admin("tls", "make-key", "--curve", curve)
            selfsigned(service, "guest", fresh, curve)  # a name of its own: all of them are trusted at a time
            trusted.write_text(trusted.read_text() + fresh.read_text())
            os.rename(fresh, service.ca)
            certificates.append(digest(service.ca))
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: serving(service.guest_url, trusted) == certificates[-1], what="the new certificate")
            wait_until(lambda: signers(service) not in (worker, []) and len(signers(service)) == 1, what="the old worker leaves")
            assert healthy(kept)[0] == 200
        # of a key that is nobody's; no certificate at all
        foreign = service.folder / "foreign.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", os.devnull,
            "-subj", "/CN=kbs", "-out", foreign)
        good = service.ca.read_text()
        for n, text in enumerate((foreign.read_text(), good.replace("M", "N"), "")):
            service.ca.write_text(text)
            refused = ("tls-kept", "reload-refused")
            before = sum(service.log_text().count(event) for event in refused)
            service.process.send_signal(signal.SIGHUP)
            wait_until(lambda: sum(service.log_text().count(event) for event in refused) > before, what=f"mistake {n} is told")
            assert serving(service.guest_url, trusted) == certificates[-1]
        service.ca.write_text(good)
        for one in load:
            one.over = True
        for one in load:
            one.join()
        assert healthy(kept)[0] == 200
    assert [f for one in load for f in one.failed] == []
    served = {c: sum(one.seen.get(c, 0) for one in load) for c in certificates}
    print(f"handshakes with each certificate: {list(served.values())}, none failed")
    assert all(served.values())
    assert service.stop() == 0
    assert "signal=9" not in service.log_text() and "role-overdue" not in service.log_text()


def test_a_renewed_file_key(make_service):
    """The same for a key in a file, which is replaced with its certificate."""
    service = make_service("softhsm", 1)
    service.start()
    trusted, before = service.folder / "trusted.pem", digest(service.ca)
    trusted.write_text(service.ca.read_text())
    with connect(service.guest_url, trusted) as kept:
        key, certificate = service.folder / "tls" / "key.pem", service.ca
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", "/CN=kbs", "-addext",
            "subjectAltName=IP:127.0.0.1", "-out", certificate)
        trusted.write_text(trusted.read_text() + certificate.read_text())
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: serving(service.guest_url, trusted) == digest(certificate) != before, what="the new certificate")
        key.write_text("no key\n")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "tls-kept" in service.log_text(), what="the mistake is told")
        assert serving(service.guest_url, trusted) == digest(certificate)
        assert healthy(kept)[0] == 200
    with open(service.folder / "kbs.toml", encoding="ascii") as file:
        text = file.read()
    (service.folder / "kbs.toml").write_text(text.replace('private_key = "tls/key.pem"', 'private_key = "pkcs11:"', 1))
    service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "private_key cannot move" in service.log_text(), what="the refusal")


def test_a_sign_worker_or_a_front_that_dies(make_service):
    service = held(make_service)
    with connect(service.guest_url, service.ca) as kept:
        for _ in range(3):
            (worker,) = signers(service)
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{worker}"), what="its end")  # what it has in hand fails
            assert serving(service.guest_url, service.ca)  # waits for the next one
            assert healthy(kept)[0] == 200
            wait_until(lambda: signers(service) not in ([], [worker]), what="another worker")
    front = next(r["pid"] for r in service.roles() if r["unit"] == "front-guest-0")
    os.kill(front, signal.SIGKILL)
    wait_until(lambda: service.is_ready() and signers(service) and any(
        r["unit"] == "front-guest-0" and r["pid"] != front for r in service.roles()), what="another front")
    assert serving(service.guest_url, service.ca)


def test_profiles(make_service):
    service = make_service("softhsm", 1)
    service.edit_config(r"^\[http_server\]$", '[http_server]\ntls_profile = "intermediate"')
    service.start()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with connect(service.guest_url, service.ca, version) as client:
            assert healthy(client)[0] == 200 and client.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version.value]
            assert "GCM" in client.cipher()[0] or "POLY1305" in client.cipher()[0]
    with pytest.raises(ssl.SSLError):
        connect(service.admin_url, service.ca, ssl.TLSVersion.TLSv1_2)


def test_client_certificates(make_service, tmp_path):
    """Only who has one by the authority reaches the admin listener, and signs as before."""
    for name in ("ca", "other"):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            tmp_path / f"{name}.key", "-subj", f"/CN={name}", "-out", tmp_path / f"{name}.pem")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            tmp_path / f"{name}-client.key", "-subj", "/CN=alice", "-out", tmp_path / f"{name}.csr")
        run("openssl", "x509", "-req", "-in", tmp_path / f"{name}.csr", "-CA", tmp_path / f"{name}.pem", "-CAkey",
            tmp_path / f"{name}.key", "-days", "2", "-out", tmp_path / f"{name}-client.pem")
    service = make_service("softhsm", 1)
    service.edit_config(r"^\[admin_server\]$", f'[admin_server]\nclient_ca = "{tmp_path}/ca.pem"')
    service.start()
    profile = service.folder / "admin" / "profile.json"
    before = json.loads(profile.read_text())

    def keys(**members):
        profile.write_text(json.dumps({**before, **members}))
        return service.admin("key", "list", check=False)

    assert keys().returncode == 8
    assert keys(client_cert=f"{tmp_path}/other-client.pem", client_key=f"{tmp_path}/other-client.key").returncode == 8
    assert keys(client_cert=f"{tmp_path}/ca-client.pem").returncode not in (0, 8)  # without its key: said at once
    done = keys(client_cert=f"{tmp_path}/ca-client.pem", client_key=f"{tmp_path}/ca-client.key")
    assert done.returncode == 0, done.stderr
    assert serving(service.guest_url, service.ca)  # guests are not asked


class Bound:
    """A connection whose channel binding is known: openssl's own client."""

    def __init__(self, url, cafile):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", "%s:%d" % address(url), "-CAfile", cafile, "-ign_eof", "-keymatexport",
             "EXPORTER-Channel-Binding", "-keymatexportlen", "32"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.text = b""
        self.channel = bytes.fromhex(self.until(rb"Keying material: ([0-9A-F]{64})")[1].decode())

    def until(self, pattern, seconds=20):
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text, re.S)):
            assert poll.poll(1000 * max(0, deadline - time.monotonic())), self.text
            self.text += os.read(self.process.stdout.fileno(), 65536)
        self.text = self.text[found.end():]
        return found

    def post(self, target, body, headers):
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.process.stdin.write(f"POST {target} HTTP/1.1\r\nHost: kbs\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        self.process.stdin.flush()
        return int(self.until(rb"HTTP/1\.1 (\d{3}) ")[1])

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def test_a_proof_for_one_connection(soft):
    """Kbs-Proof with the connection's tls-exporter: good there, nowhere else, and a policy can ask for it."""
    soft.generate("default/disk/vm1")
    policy = soft.folder / "bound.json"
    policy.write_text(json.dumps({"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.channel_bound", "equals": True}]}]}))
    soft.admin("key", "policy", "default/disk/vm1", "--policy", policy)
    guest = Prover(soft.guest_url, soft.ca).handshake()
    target, body = "/kbs/v0/key/default/disk/vm1", b'{"nonce":"' + b64u(bytes(32)).encode() + b'"}'
    bound, other = Bound(soft.guest_url, soft.ca), Bound(soft.guest_url, soft.ca)
    try:
        def ask(connection, **changes):
            proof = guest.prove("POST", target, body, **changes)
            return connection.post(target, body, {"Kbs-Proof": proof, "Content-Type": "application/json", **guest.cookies()})

        assert bound.channel != other.channel
        assert ask(bound, c=b64u(bound.channel)) == 200
        assert ask(bound) == 403  # a proof, but for any connection: the policy wants more
        assert ask(other, c=b64u(bound.channel)) == 401  # carried over
        assert ask(other, c=b64u(bytes(32))) == 401
        assert ask(other, c="short") == 401
        assert ask(other, c=b64u(other.channel)) == 200
    finally:
        bound.close()
        other.close()
    # on this connection the guest does not know the binding, and may leave it out: the policy decides
    assert post(guest, target, body, **{"Kbs-Proof": guest.prove("POST", target, body)}).status == 403
