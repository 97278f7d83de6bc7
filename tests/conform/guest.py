"""A guest as guest-components has it, in its two halves:

- Attester: kbs_protocol's client with an evidence provider, as the attestation agent and trustee-attester use it. It asks for a
  resource first and attests when it is told 401; its session is the cookie.
- TokenHolder: the same client with a token provider, as the confidential data hub uses it: always `Authorization: Bearer`.

What they do with each answer is written as those programs decide it; what they would merely log is not here.
"""
import base64
import json
import threading
import time
import urllib.parse

from teekey import EcKey, Refused, compact, digest, jcs, open_response, unb64u
from transport import HttpClient

HANDSHAKES = 5  # tries of get_token
HANDSHAKE_PAUSE_S = 1
REQUESTS = 3  # tries of get_resource
HASHES = ("sha256", "sha384", "sha512", "sm3")
DEFAULT_HASH = "sha384"
VERSION_MISMATCH = "KBS Client Protocol Version Mismatch"


class KbsError(Exception):
    """What get_token or get_resource end with. `detail` is the service's, where its body is the protocol's error."""

    def __init__(self, what, answer=None):
        self.status = answer.status if answer is not None else None
        self.error = error_information(answer) if answer is not None else {"type": "", "detail": ""}
        super().__init__(f"{what}: {self.status} {self.error}" if answer is not None else what)

    @property
    def variant(self):
        return self.error["type"].rsplit("/", 1)[-1]

    @property
    def detail(self):
        return self.error["detail"]


class Unauthorized(KbsError):
    """`request unauthorized`: 401 to every try."""


class NotFound(KbsError):
    pass


class VersionMismatch(KbsError):
    pass


def error_information(answer):
    """Its two members have to be strings; the content type is not looked at."""
    try:
        error = json.loads(answer.body)
        kind, detail = error["type"], error["detail"]
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{answer.status} with a body that is not the protocol's error: {answer.body[:200]!r}") from None
    if not isinstance(kind, str) or not isinstance(detail, str):
        raise Refused("type and detail of an error have to be strings")
    return {"type": kind, "detail": detail}


def resource_target(uri):
    """kbs:///a/b/c is the plugin `resource`; kbs+plugin:///path?query is /kbs/v0/plugin/path?query; a/b/c is kbs:///a/b/c."""
    if "://" not in uri:
        uri = "kbs:///" + uri
    parts = urllib.parse.urlsplit(uri)
    scheme, _, plugin = parts.scheme.partition("+")
    if scheme != "kbs" or parts.netloc:
        raise ValueError(f"not a resource's URI: {uri}")
    return f"/kbs/v0/{plugin or 'resource'}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def token_lifetime(token):
    """(nbf, exp) of a token; the client checks nothing else of it."""
    parts = token.split(".")
    if len(parts) != 3:
        raise Refused("a token has three parts")
    claims = json.loads(unb64u(parts[1]))
    return claims.get("nbf"), claims["exp"]


class SampleTee:
    """The sample attester and the sample device: their evidence proves nothing."""
    name = "sample"

    def __init__(self, device=False):
        self.device = device

    @staticmethod
    def _evidence(svn, report_data):
        return {"svn": svn, "report_data": base64.b64encode(report_data).decode()}

    def primary(self, report_data):
        return self._evidence("1", report_data)

    def devices(self, report_data):
        return {"sampledevice": self._evidence("2", report_data)} if self.device else {}


class Attester:
    def __init__(self, url, cert=None, key=None, tee=None, version="0.4.0", init_data=None, pause_s=HANDSHAKE_PAUSE_S):
        self.http = HttpClient(url, cert)
        self.key = key or EcKey()
        self.tee = tee or SampleTee()
        self.version = version
        self.init_data = init_data
        self.pause_s = pause_s
        self.token = None

    def close(self):
        self.http.close()

    def post(self, name, message):
        return self.http.request("POST", "/kbs/v0/" + name, compact(message).encode(), {"content-type": "application/json"})

    # ---- Request and Challenge

    def request(self):
        extra = "" if self.version == "0.2.0" else {"supported-hash-algorithms": list(HASHES)}
        return {"version": self.version, "tee": self.tee.name, "extra-params": extra}

    def auth(self):
        answer = self.post("auth", self.request())
        if answer.status != 200:
            error = KbsError("request to the KBS", answer)
            raise VersionMismatch("version", answer) if VERSION_MISMATCH in error.detail else error
        challenge = json.loads(answer.body)
        if not isinstance(challenge["nonce"], str) or "extra-params" not in challenge:
            raise Refused("not a challenge")
        return challenge

    @staticmethod
    def selected_hash(challenge):
        """SHA-384 if the challenge does not say; a name that is not known, or no string, is an error."""
        extra = challenge["extra-params"]
        if not isinstance(extra, dict) or "selected-hash-algorithm" not in extra:
            return DEFAULT_HASH
        name = extra["selected-hash-algorithm"]
        if not isinstance(name, str) or name.lower() not in HASHES:
            raise Refused("selected-hash-algorithm is none that is known")
        return name.lower()

    # ---- Attestation

    def attestation(self, challenge):
        return self.attestation_0_2_0(challenge) if self.version == "0.2.0" else self.attestation_0_4_0(challenge)

    def attestation_0_2_0(self, challenge):
        bound = {"tee-pubkey": self.key.jwk(), "nonce": challenge["nonce"]}
        report_data = digest(DEFAULT_HASH, jcs(bound))
        return {"tee-pubkey": bound["tee-pubkey"], "tee-evidence": self.tee.primary(report_data)}

    def attestation_0_4_0(self, challenge):
        name = self.selected_hash(challenge)
        runtime = {"tee-pubkey": self.key.jwk(), "nonce": challenge["nonce"]}
        devices = self.tee.devices(digest(name, jcs(runtime)))
        additional = compact(devices) if devices else ""
        report_data = digest(name, jcs(runtime | {"additional-evidence": additional}))
        return {
            "init-data": None if self.init_data is None else {"format": "toml", "body": self.init_data},
            "runtime-data": {"nonce": challenge["nonce"], "tee-pubkey": runtime["tee-pubkey"]},
            "tee-evidence": {"primary_evidence": self.tee.primary(report_data), "additional_evidence": additional},
        }

    def attest(self, message):
        answer = self.post("attest", message)
        if answer.status != 200:
            raise KbsError("attestation", answer)
        token = json.loads(answer.body)["token"]
        token_lifetime(token)
        self.token = token
        return token

    def handshake(self):
        return self.attest(self.attestation(self.auth()))

    # ---- what the programs above call

    def get_token(self):
        """(token, TEE key): the one it has while that is valid, or a new one, for at most five handshakes."""
        if self.token is not None:
            not_before, expires = token_lifetime(self.token)
            if (not_before or 0) <= time.time() < expires:
                return self.token, self.key
        for left in reversed(range(HANDSHAKES)):
            try:
                return self.handshake(), self.key
            except (KbsError, Refused):
                if left == 0:
                    raise
                threading.Event().wait(self.pause_s)

    def get_resource(self, uri):
        return get_resource(self.http, resource_target(uri), lambda: {}, lambda: self.key, self.handshake)


class TokenHolder:
    """`provider` is an Attester, or whatever else has get_token()."""

    def __init__(self, url, provider, cert=None):
        self.http = HttpClient(url, cert)
        self.provider = provider
        self.token = self.key = None

    def close(self):
        self.http.close()

    def refresh(self):
        self.token, self.key = self.provider.get_token()

    def get_resource(self, uri):
        if self.token is None:
            self.refresh()
        return get_resource(self.http, resource_target(uri), lambda: {"authorization": "Bearer " + self.token},
                            lambda: self.key, self.refresh)


def get_resource(http, target, headers, key, authenticate):
    """Three tries. 401: authenticate and try again; 404 and everything else are final, but their bodies have to parse."""
    answer = None
    for _ in range(REQUESTS):
        answer = http.request("GET", target, headers=headers())
        if answer.status == 200:
            return open_response(key(), answer.body)
        if answer.status == 404:
            raise NotFound("not found", answer)
        if answer.status != 401:
            raise KbsError("the KBS failed", answer)
        error_information(answer)
        authenticate()
    raise Unauthorized("request unauthorized", answer)

