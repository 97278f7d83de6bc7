"""A kbs-hsm service that hands evidence to one of services.py, and guests of each kind of TEE."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

from kbsguest import Guest, jcs
from minting import ISSUER, ITA_ISSUER
from service import BIN, Service

MAKE = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/snp_make"
BLIND = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests/bin/kbs-judge-blind"
KEY = "default/delegated/disk"
FETCH_MS = 5000


def policy(level):
    """Whatever the evidence says: the level is what counts here."""
    return {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.binding", "equals": level}]}]}


class World:
    """start() may be called again after stop() or with another attestation service."""

    def __init__(self, folder, asked, lanes=2, snp=False, passport=False, blind=False, tees=None):
        self.asked = asked
        self.folder = pathlib.Path(folder)
        self.service = Service(self.folder / "kbs", "softhsm", lanes)
        self.pki = None
        if blind:
            self.blind()
        if snp:
            self.pki = self.folder / "certificates"
            self.pki.mkdir()
            subprocess.run([MAKE, "folder", self.pki], check=True, timeout=60)
        self.base = (self.service.folder / "kbs.toml").read_text()
        self.passport = passport
        self.tees = tees

    def blind(self):
        """A judge that finds no report data: what it can say of a key ends with what the token says."""
        folder = self.folder / "bin"
        folder.mkdir()
        for program in BIN.iterdir():
            if program.name.startswith("kbs") and program.name not in ("kbsd", "kbs-judge"):
                (folder / program.name).symlink_to(program)
        shutil.copy(BIN / "kbsd", folder / "kbsd")
        shutil.copy(BLIND, folder / "kbs-judge")
        self.service.kbsd = [folder / "kbsd"]

    def configure(self):
        ita = self.asked.type == "intel_ta"
        keys = self.service.folder / "issuer.keys"
        keys.write_bytes(self.asked.get("/certs")[1] if ita else self.asked.key.pem())
        tees = self.tees or (["tdx"] if ita else ["sample", "sampledevice", "tdx", "se"] + (["snp"] if self.pki else []))
        if self.asked.type != "coco_as_rest" and "sampledevice" in tees:
            tees.remove("sampledevice")
        policies = [] if ita else ["default"]
        text = self.base.replace("[attestation_service]\n", f"""[attestation_service]
type = "{self.asked.type}"
endpoint = "as"
issuer = "as"
tees = {json.dumps(tees)}
policy_ids = {json.dumps(policies)}
""", 1)
        assert text != self.base
        text += f"""
[[fetch.endpoint]]
name = "as"
url = "{self.asked.url()}"
http2 = {json.dumps(self.asked.type == "coco_as_grpc")}
timeout_ms = {FETCH_MS}
retries = 0
failures = 0

[[issuer]]
name = "as"
profile = "{'ita' if ita else 'coco-ear'}"
issuer = ["{ITA_ISSUER if ita else ISSUER}"]
keys = "{keys}"
passport = {json.dumps(self.passport)}
minimum_binding = "{'token' if self.passport else 'session'}"
"""
        if self.pki:
            text += f'\n[attest.snp]\ncertificates = "{self.pki}"\ntest_root = "{(self.pki / "roots").read_text()}"\n'
        (self.service.folder / "kbs.toml").write_text(text)

    def start(self, asked=None):
        self.asked = asked or self.asked
        self.configure()
        self.service.start()
        return self

    def keys(self, *levels):
        """A key for each level, which asks exactly that one."""
        for level in levels:
            path = self.service.folder / f"policy-{level}.json"
            path.write_text(json.dumps(policy(level)))
            self.service.admin_json("key", "generate", f"{KEY}-{level}", "--policy", path)

    def stop(self):
        return self.service.stop()

    def guest(self, tee="sample", **more):
        return TeeGuest(self, tee, **more)


def make_snp(pki, report_data, *changes):
    made = subprocess.run([MAKE, "evidence", pki, report_data.hex(), *changes], check=True, timeout=60, capture_output=True)
    return json.loads(made.stdout)


class TeeGuest(Guest):
    """Of each kind. changes: of the maker of SNP evidence; device: with a sample device beside it."""
    hashes = {"se": "sha512"}

    def __init__(self, world, tee, changes=(), device=False):
        super().__init__(world.service.guest_url, world.service.ca)
        self.world, self.tee, self.changes, self.device = world, tee, changes, device
        self.algorithm = "sha384"

    def begin(self):
        answer = self.auth(tee=self.tee, **{"extra-params": {"supported-hash-algorithms": ["sha384", "sha512", "sha256"]}})
        assert answer.status == 200, answer.body
        extra = answer.json()["extra-params"]
        self.algorithm = extra["selected-hash-algorithm"] if extra else "sha384"
        return self

    def evidence(self, report_data):
        if self.tee == "sample":
            return {"svn": "1", "report_data": base64.b64encode(report_data).decode()}
        if self.tee == "snp":
            return make_snp(self.world.pki, report_data, *self.changes)
        field = report_data.ljust(64, b"\0")
        if self.tee == "se":
            return {"measurement": "bQ==", "additional_data": "", "user_data": base64.b64encode(field).decode()}
        quote = bytearray(48 + 584 + 4)
        quote[0:2], quote[4:8] = b"\x04\x00", b"\x81\x00\x00\x00"
        quote[568:632] = field
        return {"cc_eventlog": None, "quote": base64.b64encode(quote).decode()}

    def message(self, jwk=None, report_data=None):
        """report_data: of other evidence than this handshake's."""
        runtime = {"tee-pubkey": jwk or self.jwk(), "nonce": self.nonce}
        additional = ""
        if self.device:
            digest = hashlib.new(self.algorithm, jcs(runtime)).digest()
            additional = json.dumps({"sampledevice": {"svn": "2", "report_data": base64.b64encode(digest).decode()}})
        self.digest = hashlib.new(self.algorithm, jcs(runtime | {"additional-evidence": additional})).digest()
        return {"init-data": None, "runtime-data": runtime,
                "tee-evidence": {"primary_evidence": self.evidence(report_data or self.digest), "additional_evidence": additional}}

    def attested(self):
        answer = self.begin().attest(self.message())
        assert answer.status == 200, answer.body
        return self

    def releases(self, level, headers=None):
        return self.get_key(f"{KEY}-{level}", headers=headers).status == 200
