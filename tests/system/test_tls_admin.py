"""kbs-admin tls csr, selfsigned, install, show: a key in the token, on both tokens, and in a file. Certificates are made and
checked by stock openssl and python3-cryptography; what is installed is served."""
import base64
import datetime
import fcntl
import ipaddress
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service import BIN, TOKENS, run, wait_until

SAN = "DNS:kbs.example,DNS:*.kbs.example,IP:127.0.0.1,IP:2001:db8::1"
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


def now():
    return datetime.datetime.utcnow()


def spki(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class Host:
    """A service that was made and does not run."""

    def __init__(self, folder, token, *options):
        self.folder = folder
        self.config = folder / "kbs.toml"
        self.certificate = folder / "tls" / "cert.pem"
        run(BIN / "kbs-admin", "init", folder, "--token", token, *options)

    def tls(self, *argv, check=True, **kwargs):
        return run(BIN / "kbs-admin", "tls", *argv, "--config-file", self.config, check=check, **kwargs)

    def leaf(self):
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def edit(self, before, after, count=-1):
        text = self.config.read_text()
        assert before in text
        self.config.write_text(text.replace(before, after, count))

    def state(self):
        """Everything that an install could touch."""
        return {f.name: f.read_bytes() for f in (self.folder / "tls").iterdir()}


@pytest.fixture(params=TOKENS)
def host(request, tmp_path):
    return Host(tmp_path / "service", request.param, "--tls-key", "token")


@pytest.fixture
def soft_host(tmp_path):
    return Host(tmp_path / "service", "softhsm", "--tls-key", "token")


@pytest.fixture
def file_host(tmp_path):
    return Host(tmp_path / "service", "softhsm")


class Ca:
    def __init__(self, name="Test CA", issuer=None, ca=True, until=now() + 30 * DAY):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by = issuer or self
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.name).issuer_name(by.name).public_key(self.key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now() - DAY).not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca, None), True).sign(by.key, hashes.SHA256()))

    def pem(self):
        return self.certificate.public_bytes(PEM)

    def leaf(self, public_key, begin=-DAY, end=10 * DAY, names=(x509.DNSName("kbs.example"),), usages=(SERVER,), key_usage=None):
        builder = (
            x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kbs.example")]))
            .issuer_name(self.name).public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now() + begin).not_valid_after(now() + end))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
        if key_usage:
            names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                     "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
            builder = builder.add_extension(x509.KeyUsage(**{n: n == key_usage for n in names}), True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(PEM)


def by_openssl(tmp_path, csr, days=20):
    """(leaf, CA) as an operator's CA makes them, who copies what was asked for."""
    if not (tmp_path / "ca.pem").exists():
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Stock CA",
            "-days", "90", "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.pem")
    run("openssl", "x509", "-req", "-in", csr, "-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key", "-days", days,
        "-copy_extensions", "copy", "-out", tmp_path / "leaf.pem")
    return tmp_path / "leaf.pem", tmp_path / "ca.pem"


def served(url, ca, name):
    """The certificate of a TLS 1.3 connection that a stock client accepts."""
    context = ssl.create_default_context(cafile=str(ca))
    host, port = url.removeprefix("https://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), 30) as tcp, context.wrap_socket(tcp, server_hostname=name) as tls:
        assert tls.version() == "TLSv1.3"
        return x509.load_der_x509_certificate(tls.getpeercert(True))


# ---- what is made


def test_a_request(host, tmp_path):
    subject = "CN=kbs.example,O=One\\, and two,C=DE"
    done = host.tls("csr", "--san", SAN, "--subject", subject, "--out", tmp_path / "csr.pem")
    assert done.stdout == "" and (tmp_path / "csr.pem").stat().st_mode & 0o777 == 0o600
    said = run("openssl", "req", "-in", tmp_path / "csr.pem", "-noout", "-verify", "-subject", "-nameopt", "RFC2253")
    assert "verify OK" in said.stderr + said.stdout and f"subject={subject}" in said.stdout
    csr = x509.load_pem_x509_csr((tmp_path / "csr.pem").read_bytes())
    assert csr.is_signature_valid and spki(csr.public_key()) == spki(host.leaf().public_key())
    assert [(e.oid._name, e.critical) for e in csr.extensions] == [
        ("keyUsage", True), ("extendedKeyUsage", False), ("subjectAltName", False)]
    usage = csr.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and not (usage.key_encipherment or usage.key_cert_sign or usage.key_agreement)
    assert list(csr.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [SERVER]
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("kbs.example"), x509.DNSName("*.kbs.example"),
                           x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(ipaddress.ip_address("2001:db8::1"))]
    again = host.tls("csr", "--san", "DNS:kbs.example", "--out", tmp_path / "csr.pem", check=False)
    assert again.returncode == 6  # a file that is there is not replaced


def test_a_selfsigned_certificate(host):
    before = now()
    pem = host.tls("selfsigned", "--san", "DNS:kbs.example", "--days", "7").stdout
    cert = x509.load_pem_x509_certificate(pem.encode())
    assert spki(cert.public_key()) == spki(host.leaf().public_key()) and cert.version == x509.Version.v3
    cert.public_key().verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(cert.signature_hash_algorithm))
    assert cert.subject == cert.issuer and cert.subject.rfc4514_string() == "CN=kbs.example"
    constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and not constraints.value.ca
    assert abs(cert.not_valid_after - before - 7 * DAY) < datetime.timedelta(minutes=5)
    assert cert.not_valid_before <= before
    other = x509.load_pem_x509_certificate(host.tls("selfsigned", "--san", "DNS:kbs.example", "--days", "7").stdout.encode())
    assert other.serial_number != cert.serial_number and cert.serial_number.bit_length() == 127


def test_a_key_in_a_file(file_host, tmp_path):
    key = serialization.load_pem_private_key((file_host.folder / "tls/key.pem").read_bytes(), None)
    csr = x509.load_pem_x509_csr(file_host.tls("csr", "--san", SAN, "--listener", "admin").stdout.encode())
    assert csr.is_signature_valid and spki(csr.public_key()) == spki(key.public_key())
    (tmp_path / "new.pem").write_text(file_host.tls("selfsigned", "--san", SAN).stdout)
    file_host.tls("install", tmp_path / "new.pem")
    assert file_host.certificate.read_text() == (tmp_path / "new.pem").read_text()
    shown = json.loads(file_host.tls("show", "--json").stdout)
    assert shown["key"] == {"where": "file", "file": str(file_host.folder / "tls/key.pem"), "state": "matches"}
    (file_host.folder / "tls/key.pem").write_bytes(ec.generate_private_key(ec.SECP384R1()).private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    assert file_host.tls("install", tmp_path / "new.pem", check=False).returncode == 6
    assert file_host.tls("show", check=False).returncode == 6
    csr = x509.load_pem_x509_csr(file_host.tls("csr", "--san", SAN).stdout.encode())
    assert csr.is_signature_valid and isinstance(csr.signature_hash_algorithm, hashes.SHA384)
    (file_host.folder / "tls/key.pem").write_bytes(key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")))
    done = file_host.tls("csr", "--san", SAN, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "password" in done.stderr


def test_a_key_of_an_operators_own(soft_host, tmp_path):
    """RSA, brought into the token by its own tool, and named by a URI."""
    run("openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.pem")
    run("softhsm2-util", "--import", tmp_path / "rsa.pem", "--token", "kbs", "--label", "web", "--id", "77",
        "--pin", (soft_host.folder / "pin").read_text().strip(),
        env={**os.environ, "SOFTHSM2_CONF": str(soft_host.folder / "token/softhsm2.conf")})
    soft_host.edit('private_key = "pkcs11:"', 'private_key = "pkcs11:object=web;id=%77"')
    soft_host.tls("csr", "--san", "DNS:kbs.example", "--out", tmp_path / "csr.pem")
    leaf, ca = by_openssl(tmp_path, tmp_path / "csr.pem")
    soft_host.tls("install", leaf, "--chain", ca)
    key = serialization.load_pem_private_key((tmp_path / "rsa.pem").read_bytes(), None)
    assert spki(soft_host.leaf().public_key()) == spki(key.public_key())
    cert = x509.load_pem_x509_certificate(soft_host.tls("selfsigned", "--san", "DNS:kbs.example").stdout.encode())
    key.public_key().verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), cert.signature_hash_algorithm)
    assert json.loads(soft_host.tls("show", "--json").stdout)["key"]["state"] == "matches"


def test_what_is_shown(host):
    before = now().replace(microsecond=0)
    shown = json.loads(host.tls("show", "--json").stdout)
    leaf = host.leaf()
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki(leaf.public_key()))
    assert shown["pin"] == "sha256//" + base64.b64encode(digest.finalize()).decode()
    assert shown["sha256"] == leaf.fingerprint(hashes.SHA256()).hex()
    assert shown["names"][:3] == ["IP:127.0.0.1", "IP:::1", "DNS:localhost"] and shown["chain"] == 1
    assert shown["not_after"] == leaf.not_valid_after.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (leaf.not_valid_after - now()).days <= shown["days_left"] <= (leaf.not_valid_after - before).days
    assert shown["key"] == {"where": "token", "uri": "pkcs11:", "state": "matches"}
    text = host.tls("show").stdout
    assert "matches the certificate" in text and shown["pin"] in text


# ---- what is installed


def test_a_ca_signs_it_and_it_is_served(make_service, token, tmp_path):
    service = make_service(token, init=("--tls-key", "token"))
    config = ("--config-file", service.folder / "kbs.toml")
    run(BIN / "kbs-admin", "tls", "csr", "--san", SAN, "--out", tmp_path / "csr.pem", *config)
    leaf, ca = by_openssl(tmp_path, tmp_path / "csr.pem")
    before = service.ca.read_bytes()
    done = run(BIN / "kbs-admin", "tls", "install", leaf, "--chain", ca, *config)
    assert "kill -HUP" in done.stdout and "guest and admin listener" in done.stdout
    assert service.ca.with_name("cert.pem.old").read_bytes() == before
    assert service.ca.stat().st_mode & 0o777 == 0o644
    pems = [x509.load_pem_x509_certificate(p.read_bytes()) for p in (leaf, ca)]
    assert service.ca.read_bytes() == b"".join(p.public_bytes(PEM) for p in pems)
    assert json.loads(run(BIN / "kbs-admin", "tls", "show", "--json", *config).stdout)["chain"] == 2
    service.start()
    for url in (service.guest_url, service.admin_url):
        assert served(url, ca, "kbs.example") == pems[0]
    # Again while it runs: another certificate, without a restart.
    fronts = service.pids("kbs-front")
    leaf, ca = by_openssl(tmp_path, tmp_path / "csr.pem", days=21)
    renewed = x509.load_pem_x509_certificate(leaf.read_bytes())
    run(BIN / "kbs-admin", "tls", "install", leaf, "--chain", ca, "--pid", service.process.pid, *config)
    for url in (service.guest_url, service.admin_url):
        wait_until(lambda: served(url, ca, "kbs.example") == renewed, what="the renewed certificate is served")
    assert service.pids("kbs-front") == fronts


def test_a_new_version_of_the_key(make_service, token, tmp_path):
    """The newest key is asked for; until its certificate is installed, the one before serves."""
    service = make_service(token, init=("--tls-key", "token")).start()
    config = ("--config-file", service.folder / "kbs.toml")
    old = served(service.guest_url, service.ca, "localhost")
    service.admin("tls", "make-key", "--curve", "P-384")
    assert json.loads(run(BIN / "kbs-admin", "tls", "show", "--json", *config).stdout)["key"]["state"] == "matches"
    run(BIN / "kbs-admin", "tls", "selfsigned", "--san", "DNS:localhost,IP:127.0.0.1", "--out", tmp_path / "new.pem", *config)
    new = x509.load_pem_x509_certificate((tmp_path / "new.pem").read_bytes())
    assert isinstance(new.public_key().curve, ec.SECP384R1) and isinstance(new.signature_hash_algorithm, hashes.SHA384)
    assert served(service.guest_url, service.ca, "localhost") == old
    run(BIN / "kbs-admin", "tls", "install", tmp_path / "new.pem", "--pid", service.process.pid, *config)
    both = tmp_path / "both.pem"
    both.write_bytes(old.public_bytes(PEM) + new.public_bytes(PEM))
    wait_until(lambda: served(service.guest_url, both, "localhost") == new, what="the new key's certificate is served")
    # And back: the key before is there until it is destroyed.
    run(BIN / "kbs-admin", "tls", "install", service.folder / "tls/cert.pem.old", "--pid", service.process.pid, *config)
    wait_until(lambda: served(service.guest_url, both, "localhost") == old, what="the old key's certificate is served")


def test_twice_the_same_keeps_the_one_before(soft_host, tmp_path):
    first = soft_host.certificate.read_bytes()
    (tmp_path / "new.pem").write_text(soft_host.tls("selfsigned", "--san", "DNS:kbs.example").stdout)
    soft_host.tls("install", tmp_path / "new.pem", "--dry-run")
    assert soft_host.state() == {"cert.pem": first}
    for _ in range(2):
        done = soft_host.tls("install", tmp_path / "new.pem")
    assert "was there already" in done.stdout
    assert soft_host.state() == {"cert.pem": (tmp_path / "new.pem").read_bytes(), "cert.pem.old": first}


def test_the_first_certificate(soft_host, tmp_path):
    """There is none yet, as when somebody wrote the configuration by hand."""
    soft_host.certificate.unlink()
    assert soft_host.tls("show", check=False).returncode == 1
    soft_host.tls("selfsigned", "--san", "DNS:kbs.example", "--out", tmp_path / "new.pem")
    soft_host.tls("install", tmp_path / "new.pem")
    assert list(soft_host.state()) == ["cert.pem"]
    assert run(BIN / "kbsd", "-c", soft_host.config, "--check-config").returncode == 0


# ---- what is refused


def other_key():
    return ec.generate_private_key(ec.SECP256R1()).public_key()


ROOT = Ca()
MIDDLE = Ca("Intermediate CA", ROOT)
REFUSED = {
    # name: (status, what is said, the file made of the token's public key)
    "another-key": (6, "is of another key", lambda key: ROOT.leaf(other_key())),
    "expired": (1, "has expired", lambda key: ROOT.leaf(key, begin=-2 * DAY, end=-DAY)),
    "not-yet": (1, "is not valid yet", lambda key: ROOT.leaf(key, begin=DAY)),
    "for-clients": (1, "serverAuth", lambda key: ROOT.leaf(key, usages=(ExtendedKeyUsageOID.CLIENT_AUTH,))),
    "for-anything": (1, "serverAuth", lambda key: ROOT.leaf(key, usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))),
    "key-usage": (1, "digitalSignature", lambda key: ROOT.leaf(key, key_usage="key_agreement")),
    "no-names": (1, "names no server", lambda key: ROOT.leaf(key, names=())),
    "only-mail": (1, "names no server", lambda key: ROOT.leaf(key, names=(x509.RFC822Name("a@kbs.example"),))),
    "root-first": (1, "is not signed by the next one", lambda key: MIDDLE.leaf(key) + ROOT.pem() + MIDDLE.pem()),
    "leaf-last": (1, "names no server", lambda key: ROOT.pem() + ROOT.leaf(key)),
    "gap": (1, "is not signed by the next one", lambda key: MIDDLE.leaf(key) + ROOT.pem()),
    "namesake": (1, "is not signed by the next one", lambda key: Ca().leaf(key) + ROOT.pem()),
    "no-ca": (1, "is not a CA's", lambda key: NO_CA.leaf(key) + NO_CA.pem()),
    "expired-ca": (1, "has expired", lambda key: OLD_CA.leaf(key) + OLD_CA.pem()),
    "private-key": (1, "holds a PRIVATE KEY", lambda key: ROOT.leaf(key) + ROOT.key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
    "nothing": (1, "no certificate in PEM", lambda key: b""),
    "no-pem": (1, "no certificate in PEM", lambda key: b"certificate"),
    "damaged": (1, "damaged", lambda key: ROOT.leaf(key).replace(b"MII", b"MIJ", 1)),
    "cut": (1, "damaged", lambda key: ROOT.leaf(key)[:300]),
    "too-many": (1, "more than 16", lambda key: ROOT.leaf(key) + 16 * ROOT.pem()),
    "too-long": (1, "holds more than", lambda key: ROOT.leaf(key) + 65536 * b"\n"),
}
NO_CA = Ca("No CA", ca=False)
OLD_CA = Ca("Old CA", until=now() - datetime.timedelta(hours=1))


@pytest.fixture(scope="module")
def table_host(tmp_path_factory):
    return Host(tmp_path_factory.mktemp("table") / "service", "softhsm", "--tls-key", "token")


@pytest.mark.parametrize("name", REFUSED)
def test_a_certificate_that_is_refused(table_host, tmp_path, name):
    status, text, make = REFUSED[name]
    before = table_host.state()
    (tmp_path / "new.pem").write_bytes(make(table_host.leaf().public_key()))
    done = table_host.tls("install", tmp_path / "new.pem", "--pid", os.getpid(), check=False)
    assert (done.returncode, text in done.stderr) == (status, True), done.stderr
    assert done.stdout == "" and table_host.state() == before
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_what_the_table_would_take(table_host, tmp_path):
    """The same maker, with nothing wrong: so the refusals above are for what they say."""
    key = table_host.leaf().public_key()
    for name, pem in {"leaf": ROOT.leaf(key), "chain": MIDDLE.leaf(key) + MIDDLE.pem() + ROOT.pem(), "no-usage": ROOT.leaf(key, usages=()),
                      "usage": ROOT.leaf(key, key_usage="digital_signature"),
                      "words": b"a bundle of\n" + MIDDLE.leaf(key) + b"and\n" + MIDDLE.pem()}.items():
        (tmp_path / f"{name}.pem").write_bytes(pem)
        done = table_host.tls("install", tmp_path / f"{name}.pem", "--dry-run")
        assert "could be installed" in done.stdout, name


def test_another_key_is_named_by_its_pin(host, tmp_path):
    (tmp_path / "new.pem").write_bytes(ROOT.leaf(other_key()))
    done = host.tls("install", tmp_path / "new.pem", check=False)
    pin = json.loads(host.tls("show", "--json").stdout)["pin"]
    assert done.returncode == 6 and f"than the one in the token, {pin}" in done.stderr
    host.certificate.write_bytes((tmp_path / "new.pem").read_bytes())
    done = host.tls("show", "--json", check=False)
    assert done.returncode == 6 and json.loads(done.stdout)["key"]["state"] == "another"


def test_a_place_that_is_not_ours(soft_host, tmp_path):
    (tmp_path / "new.pem").write_text(soft_host.tls("selfsigned", "--san", "DNS:kbs.example").stdout)
    real = soft_host.certificate.rename(tmp_path / "real.pem")
    soft_host.certificate.symlink_to(real)
    before = real.read_bytes()
    done = soft_host.tls("install", tmp_path / "new.pem", check=False)
    assert done.returncode == 6 and "is a link" in done.stderr and real.read_bytes() == before


def test_listeners_with_one_certificate_and_two_keys(soft_host, tmp_path):
    soft_host.edit('private_key = "pkcs11:"', 'private_key = "tls/key.pem"', 1)
    (soft_host.folder / "tls/key.pem").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (soft_host.folder / "tls/key.pem").chmod(0o600)
    for listener in ("guest", "admin"):
        (tmp_path / listener).write_text(soft_host.tls("selfsigned", "--san", "DNS:kbs.example", "--listener", listener).stdout)
        done = soft_host.tls("install", tmp_path / listener, "--listener", listener, check=False)
        assert done.returncode == 6 and "not the same key" in done.stderr
    soft_host.edit('certificate = "tls/cert.pem"', 'certificate = "tls/guest.pem"', 1)
    for listener in ("guest", "admin"):
        soft_host.tls("install", tmp_path / listener, "--listener", listener)
    assert (soft_host.folder / "tls/guest.pem").read_bytes() == (tmp_path / "guest").read_bytes()
    assert soft_host.certificate.read_bytes() == (tmp_path / "admin").read_bytes()


def test_a_listener_without_tls(soft_host):
    soft_host.edit('sockets = ["127.0.0.1:8080"]', "sockets = []")
    soft_host.edit("plain_sockets = []", 'plain_sockets = ["127.0.0.1:8082"]')
    done = soft_host.tls("csr", "--san", "DNS:kbs.example", check=False)
    assert done.returncode == 1 and "the guest listener has no TLS" in done.stderr
    assert soft_host.tls("csr", "--san", "DNS:kbs.example", "--listener", "admin").returncode == 0


def test_a_configuration_that_is_not_in_order(soft_host):
    soft_host.edit("lanes = 2", "lanes = 0")
    done = soft_host.tls("csr", "--san", "DNS:kbs.example", check=False)
    assert done.returncode == 1 and "token.lanes must be" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("uri, text", [
    ("pkcs11:object=nothing", "no private key that the URI matches"),
    ("pkcs11:object=kbs-hsm%2fsign-token", "sign-token"),
    ("pkcs11:token=other;object=kbs-hsm%2ftls", "names another token"),
])
def test_a_key_that_cannot_be_used(host, uri, text):
    host.edit('private_key = "pkcs11:"', f'private_key = "{uri}"')
    for command in (["csr", "--san", "DNS:kbs.example"], ["install", host.certificate], ["show"]):
        before = host.state()
        done = host.tls(*command, check=False)
        assert done.returncode == 7 and text in done.stderr and host.state() == before, (command, done)


def test_a_process_that_is_no_kbsd(soft_host, tmp_path):
    (tmp_path / "new.pem").write_text(soft_host.tls("selfsigned", "--san", "DNS:kbs.example").stdout)
    hung_up = []
    handler = signal.signal(signal.SIGHUP, lambda *_: hung_up.append(True))
    try:
        done = soft_host.tls("install", tmp_path / "new.pem", "--pid", os.getpid(), check=False)
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert done.returncode == 5 and "is no kbsd" in done.stderr and not hung_up
    assert soft_host.certificate.read_bytes() == (tmp_path / "new.pem").read_bytes()  # that much is said


# ---- the PIN, and other logins


def test_a_wrong_pin_is_tried_once(host):
    pin = host.folder / "pin"
    right = pin.read_text()
    pin.write_text("0" * 32 + "\n")
    csr = ("csr", "--san", "DNS:kbs.example")
    done = host.tls(*csr, check=False)
    assert done.returncode == 7 and "CKR_PIN_INCORRECT" in done.stderr, done.stderr
    assert (host.folder / "token.lock").read_text().startswith("refused ")
    again = host.tls(*csr, check=False)
    assert again.returncode == 7 and "has refused this PIN before" in again.stderr and "CKR_" not in again.stderr
    shown = host.tls("show", check=False)
    assert shown.returncode == 7 and "unknown" in shown.stdout  # of the certificate, all that can be said
    pin.write_text(right)
    assert host.tls(*csr).returncode == 0


def test_a_pin_that_cannot_be_read(soft_host):
    (soft_host.folder / "pin").unlink()
    done = soft_host.tls("csr", "--san", "DNS:kbs.example", check=False)
    assert done.returncode == 1 and "pin_file" in done.stderr  # kbsd says so


def test_logins_wait_for_each_other(host):
    lock = os.open(host.folder / "token.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    ours = subprocess.Popen([BIN / "kbs-admin", "tls", "csr", "--san", "DNS:kbs.example", "--config-file", host.config],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    links = pathlib.Path(f"/proc/{ours.pid}/fd")

    def waits():
        assert ours.poll() is None, ours.communicate()
        return any(os.readlink(fd) == str(host.folder / "token.lock") for fd in list(links.iterdir()) if fd.is_symlink())

    try:
        wait_until(waits, what="kbs-admin waits for the lock")
        with pytest.raises(subprocess.TimeoutExpired):
            ours.wait(1)
    finally:
        os.close(lock)
    out, err = ours.communicate(timeout=60)
    assert ours.returncode == 0 and out.startswith(b"-----BEGIN CERTIFICATE REQUEST-----"), err
