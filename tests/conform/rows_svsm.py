"""Rows of the conformance table about COCONUT-SVSM: every step of its proxy's conversation, over plain HTTP, with SEV-SNP evidence
that a PKI of the tests signed; three VMs that ask for the same path, and what is not a VM of anybody's."""
import base64
import json
import os
import pathlib
import subprocess

import table
from aproxy import RESOURCE, ForwardedSvsm, LegacySvsm, Proxy
from rows_handshake import refused
from teekey import COORDINATE_BYTES, MEMBERS, EcKey, digest, jcs, unb64u

MAKE = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/snp_make"
SECTION = "COCONUT-SVSM"
ALIAS = "default/sample/test"
FULL = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.binding", "equals": "full"},
                                                 {"claim": "kbs.native.vmpl", "equals": 0}]}]}
# What is attested of each VM, and what it is led to: a key, a sealed secret, and a key that is not to leave by this form.
VMS = {"key": (["measurement=" + "a1" * 48, "init-data=" + "aa" * 32], "svsm/vtpm/key"),
       "secret": (["family-id=" + "b1" * 16, "image-id=" + "b2" * 16], "svsm/vtpm/secret"),
       "guarded": (["measurement=" + "c1" * 48], "svsm/vtpm/guarded")}
WHEN = {"key": f"measurement={'a1' * 48},host-data={'AA' * 32}", "secret": f"family-id={'b1' * 16},image-id={'b2' * 16}",
        "guarded": f"measurement={'c1' * 48}"}
NEK = "svsm/nek/rsa"  # what wrap-key and id-key are about (rows_wrap_key.py)
ID_KEY = "svsm/nek/ec"
STATE_KEY = b"the state key of a vTPM, 32 bytes"


def row(what, differs=None):
    return table.row(SECTION, what, differs)


class Host:
    """A service as docs/svsm.md sets it up."""

    def __init__(self, world):
        self.pki = world.folder() / "certificates"
        self.pki.mkdir()
        subprocess.run([MAKE, "folder", self.pki], check=True, timeout=60)
        self.world = world.worlds.get("svsm-" + world.token, token=world.token, more=f"""
[attest.snp]
certificates = "{self.pki}"
test_root = "{(self.pki / "roots").read_text()}"
svsm_binding = true
allow_unexplained_data = true

[[plugins]]
name = "pkcs11"
nek_key = "{NEK}"

[[plugins]]
name = "id-key"
nek_key = "{ID_KEY}"
""")
        service = self.world.service
        policy = service.policy_file(FULL)
        service.admin("key", "generate", "svsm/vtpm/key", "--floor", "worker", "--policy", policy)
        service.admin("key", "generate", "svsm/vtpm/guarded", "--policy", policy)
        service.admin("key", "generate", NEK, "--purpose", "nek", "--alg", "RSA", "--bytes", "256", "--floor", "worker", "--policy", policy)
        service.admin("key", "generate", ID_KEY, "--purpose", "nek", "--alg", "P-384", "--floor", "worker", "--policy", policy)
        secret = service.folder / "state-key"
        secret.write_bytes(STATE_KEY)
        service.admin("secret", "set", "svsm/vtpm/secret", "--file", secret, "--policy", policy)
        for vm, (_, path) in VMS.items():
            service.admin("alias", "set", ALIAS, "--when", WHEN[vm], "--to", path)

    def proxy(self):
        return self.world.keep(Proxy(self.world.plain_url))

    def reporter(self, *changes):
        """Gives signed reports with that in them. The client sends no VCEK: it is in the service's folder."""
        def report(report_data):
            made = subprocess.run([MAKE, "evidence", self.pki, report_data.hex(), "svsm", "no-leaf", *changes], check=True,
                                  timeout=60, capture_output=True)
            return json.loads(made.stdout)
        return report

    def vm(self, name):
        return LegacySvsm(self.proxy(), self.reporter(*VMS[name][0]))

    def booted(self, name):
        svsm = self.vm(name)
        assert svsm.attest().count(".") == 2
        return svsm

    def last(self, kind):
        return self.world.service.records(kind)[-1]


HOSTS = {}


def host_of(world):
    if world.token not in HOSTS:
        HOSTS[world.token] = Host(world)
    return HOSTS[world.token]


# ---- the proxy's table, step by step

@row("POST auth with an empty text of extra-params: 200, a padded nonce, extra-params, a cookie without Secure")
def auth(world):
    host = host_of(world)
    answer = host.proxy().post("auth", {"version": "0.4.0", "tee": "snp", "extra-params": ""})
    challenge = json.loads(answer.body)
    assert answer.status == 200 and "extra-params" in challenge
    assert base64.b64encode(base64.b64decode(challenge["nonce"], validate=True)).decode() == challenge["nonce"]
    cookie = answer.header("set-cookie")
    assert cookie.startswith("kbs-session-id=") and "secure" not in cookie.lower()


@row("POST attest with snp-report and certs-buf, SHA-512(x, y, nonce), P-521: exactly 200 and a token")
def attest(world):
    host = host_of(world)
    svsm = host.booted("key")
    assert [status for _, _, status in svsm.proxy.http.seen] == [200, 200]
    record = host.last("attest")
    assert (record["tee"], record["binding"], len(record["report_data"])) == ("snp", "full", 128)


@row("GET of the one path that is built in: exactly 200, a flattened JWE without aad, apu and apv, on P-521")
def resource(world):
    svsm = host_of(world).booted("key")
    answer = svsm.proxy.http.request("GET", RESOURCE)
    jwe = json.loads(answer.body)
    header = json.loads(unb64u(jwe["protected"]))
    assert answer.status == 200 and set(jwe) == set(MEMBERS)
    assert list(header) == ["alg", "enc", "epk"] and list(header["epk"]) == ["crv", "kty", "x", "y"]
    assert {len(unb64u(header["epk"][name])) for name in ("x", "y")} == {COORDINATE_BYTES["P-521"]}


@row("a key whose floor is worker: opened in the VM, the same at every boot")
def key(world):
    host = host_of(world)
    opened = []
    for _ in range(2):
        svsm = host.booted("key")
        opened.append(svsm.open(svsm.proxy.secret()))
    assert opened[0] == opened[1] and len(opened[0]) == 32
    record = host.last("release")
    assert (record["kid"], record["asked"], record["binding"]) == ("svsm/vtpm/key/v1", ALIAS, "full")


@row("a sealed secret, by the same path: opened in another VM, chosen by its ID block")
def secret(world):
    host = host_of(world)
    svsm = host.booted("secret")
    assert svsm.open(svsm.proxy.secret()) == STATE_KEY
    assert host.last("release")["kid"] == "svsm/vtpm/secret/v1"


@row("a key with a higher floor, where the token cannot wrap by AES-GCM: 501")
def guarded(world):
    host = host_of(world)
    svsm = host.booted("guarded")
    answer = svsm.proxy.http.request("GET", RESOURCE)
    assert "GCM-wrap" in refused(answer, 501) and svsm.proxy.secret() is None
    assert host.last("release-failed")["asked"] == ALIAS


@row("a VM that no rule knows: attests, and gets nothing (403, recorded)")
def unknown(world):
    host = host_of(world)
    svsm = LegacySvsm(host.proxy(), host.reporter())
    assert svsm.attest().count(".") == 2
    assert "alias" in refused(svsm.proxy.http.request("GET", RESOURCE), 403)
    record = host.last("release-denied")
    assert record["asked"] == ALIAS and "kid" not in record and "none of its rules" in record["reason"]


@row("what an alias leads to has a policy, and that decides: a guest that proves nothing has 403 by every name")
def by_name(world):
    host = host_of(world)
    host.world.service.admin("alias", "set", ALIAS, "--when", "measurement=" + b"1".hex(), "--to", "svsm/vtpm/key")  # svn of a sample
    sample = ForwardedSvsm(host.proxy())
    assert sample.attest() is not None
    for target in (RESOURCE, "/kbs/v0/resource/svsm/vtpm/key"):
        assert "policy" in refused(sample.proxy.http.request("GET", target), 403)
    assert host.last("release-denied")["kid"] == "svsm/vtpm/key/v1"


# ---- what is refused

def turned_away(host, svsm, check, message=None):
    """The proxy is told so by 401, and SVSM gets neither token nor secret."""
    nonce = svsm.proxy.negotiate(svsm.tee)
    answer = svsm.proxy.post("attest", message(nonce) if message else svsm.message(nonce))
    assert f"evidence: {check}: " in refused(answer, 401)
    assert svsm.proxy.secret() is None
    assert svsm.proxy.http.seen[-1][2] == 401


@row("a report of VMPL 1, as the guest's kernel can get one: 401")
def vmpl(world):
    host = host_of(world)
    turned_away(host, LegacySvsm(host.proxy(), host.reporter(*VMS["key"][0], "vmpl=1")), "vmpl")


@row("a report over another nonce: 401")
def other_nonce(world):
    host = host_of(world)
    old = base64.b64encode(bytes(32)).decode()
    svsm = host.vm("key")
    turned_away(host, svsm, "report-data", lambda nonce: {
        **svsm.message(old), "runtime-data": {"nonce": nonce, "tee-pubkey": svsm.key.jwk()}})


@row("a report over another key, as a proxy that puts its own in would send: 401")
def other_key(world):
    host = host_of(world)
    svsm, proxys_own = host.vm("key"), EcKey("P-521")

    def message(nonce):
        made = svsm.message(nonce)
        made["runtime-data"]["tee-pubkey"] = proxys_own.jwk()
        return made
    turned_away(host, svsm, "report-data", message)


@row("a key on P-256, which SVSM never has: 401")
def other_curve(world):
    host = host_of(world)
    svsm = host.vm("key")
    svsm.key = EcKey("P-256")
    turned_away(host, svsm, "report-data")


@row("a report with one bit changed after it was signed: 401")
def tampered(world):
    host = host_of(world)
    turned_away(host, LegacySvsm(host.proxy(), host.reporter(*VMS["key"][0], "forged")), "signature")


@row("a report of a VM that its host may debug: 401")
def debug(world):
    host = host_of(world)
    turned_away(host, LegacySvsm(host.proxy(), host.reporter(*VMS["key"][0], "debug")), "debug")


# ---- the client to come

@row("messages that SVSM makes itself, forwarded, with its report over SHA-384: opened in the VM")
def forwarded_snp(world):
    host = host_of(world)

    class Forwarded(LegacySvsm):
        def report_data(self, nonce):
            return digest("sha384", jcs({"nonce": nonce, "tee-pubkey": self.key.jwk(), "additional-evidence": ""}))
    svsm = Forwarded(host.proxy(), host.reporter(*VMS["key"][0]))
    assert svsm.attest().count(".") == 2
    assert len(svsm.open(svsm.proxy.secret())) == 32


@row("the same of the sample TEE: P-521 over plain HTTP, opened in the VM")
def forwarded_sample(world):
    value = world.put(ALIAS, STATE_KEY)
    svsm = ForwardedSvsm(world.keep(Proxy(world.plain_url)))
    assert svsm.attest().count(".") == 2
    assert svsm.open(svsm.proxy.secret()) == value
    assert [status for _, _, status in svsm.proxy.http.seen] == [200, 200, 200]


@row("where the operator has configured no SEV-SNP: the handshake begins, the report is refused", differs="verifiers")
def unconfigured(world):
    svsm = LegacySvsm(world.keep(Proxy(world.plain_url)))
    assert svsm.attest() is None
    assert svsm.proxy.secret() is None
