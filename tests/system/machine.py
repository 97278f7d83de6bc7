"""A guest that has something kept for it: its NEK, and its value in a register. Its measurement is chosen."""
import hashlib
import json

from kbsguest import Guest, b64u, random_nonce, unb64u
from service import ALLOW_SAMPLE

IDENTITY = {"identity": ["measurement"], "quota": 4}
KEEPS = {**ALLOW_SAMPLE, "provision": IDENTITY, "register": {**IDENTITY, "quota": 2}}


class Machine(Guest):
    def __init__(self, service, svn="1"):
        super().__init__(service.guest_url, service.ca)
        self.svn = svn
        self.handshake()

    def attestation(self, *args, **kwargs):
        message = super().attestation(*args, **kwargs)
        message["tee-evidence"]["primary_evidence"]["svn"] = self.svn
        return message

    def post(self, target, body):
        return self.http.request("POST", "/kbs/v0/" + target, json.dumps(body),
                                 {"Content-Type": "application/json", **self.cookies()})

    def provision(self, path, **options):
        self.asked = random_nonce()
        return self.post("key/provision", {"key": path, "nonce": b64u(self.asked), **options})

    def bound_to(self, v, opener, *args):
        """(wrapping key, key) of an answer with that PartyVInfo: the guest of kbsguest.py knows that of a release."""
        self.party_v = lambda _: v
        try:
            return opener(*args)
        finally:
            del self.party_v

    def provisioned(self, answer, kid):
        """What came, by the PartyVInfo that the blob beside it has a part in."""
        body = answer.json()
        v = hashlib.sha256(b"kbs-v1" + self.digest + self.asked).digest()
        blob = json.dumps(body["nek"], separators=(",", ":")).encode()
        bound = hashlib.sha256(b"kbs-provision-v1" + v + hashlib.sha256(blob).digest()).digest()
        if "cose" in body:
            return self.bound_to(bound, self.open_cose, unb64u(body["cose"]), kid, self.asked, b"")
        return self.bound_to(bound, self.open_jose, body["recipient"], kid, self.asked)

    def opened(self, answer, kid):
        return self.provisioned(answer, kid)[1]

    def rewrapped(self, blob, kid):
        nonce = random_nonce()
        answer = self.post("key/rewrap", {"recipient": blob, "nonce": b64u(nonce)})
        assert answer.status == 200, answer.body
        wrapped = hashlib.sha256(unb64u(blob["encrypted_key"])).digest()
        bound = hashlib.sha256(b"kbs-rewrap-v1" + self.digest + nonce + wrapped).digest()
        return self.bound_to(bound, self.open_jose, answer.json(), kid, nonce)

    def register(self, path, expected, value, digest=b""):
        return self.post("register/" + path, {"expected": expected, "value": value, "digest": b64u(digest)})

    def read(self, path):
        return self.http.request("GET", "/kbs/v0/register/" + path, headers=self.cookies())


def make(service, path, alg, policy):
    service.admin("key", "generate", path, "--purpose", "nek", "--alg", alg, "--policy", service.policy_file(policy))
