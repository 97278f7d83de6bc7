"""The service that the clients meet: a demo service with what an operator who comes from Trustee configures, and administrators
whose tokens are made here, with python3-cryptography, as an identity provider makes them."""
import json
import pathlib
import sys
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from guest import Attester, TokenHolder  # noqa: E402
from kbs_client import Client  # noqa: E402
from service import ALLOW_SAMPLE, BIN, EACH_TOKEN, Service, run  # noqa: E402,F401  only to make, start and stop one
from teekey import b64u, compact  # noqa: E402

ISSUER = "issuer"
AUDIENCE = "kbs"
ROLES = {
    "admin": "^/kbs/v0/.*$",
    "writer": "^/kbs/v0/resource/shop/[^?]*$",
}

COMPAT = """
trustee_compat = true
authorization_mode = "AuthenticatedAuthorization"

[[admin.authentication.bearer_jwt.identity_providers]]
issuer = "issuer"
audience = "kbs"
public_key_uri = "issuer.pub.pem"
"""
ACL = """
[[admin.authorization.regex_acl.acls]]
role = "{role}"
allowed_endpoints = "{endpoints}"
"""


class Issuer:
    """An identity provider of administrators."""

    def __init__(self):
        self.key = Ed25519PrivateKey.generate()

    def public_pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def token(self, role="admin", **changes):
        claims = {"iss": ISSUER, "aud": [AUDIENCE], "role": role, "iat": int(time.time()), "exp": int(time.time()) + 600}
        claims = {name: value for name, value in (claims | changes).items() if value is not None}
        signed = b64u(compact({"alg": "EdDSA", "typ": "JWT"}).encode()) + "." + b64u(compact(claims).encode())
        return signed + "." + b64u(self.key.sign(signed.encode()))


class World:
    def __init__(self, folder, token, worlds, mode=None, rsa1_5=True, policy=True, auth_per_second=None, more=""):
        self.token = token
        self.worlds = worlds  # the others
        self.issuer = worlds.issuer
        self.service = Service(folder, token)
        self.made = []
        self.configure(mode, rsa1_5, policy)
        if auth_per_second is not None:
            self.service.edit_config(r"^(max_connections = .*)$", rf"\1\nauth_per_second = {auth_per_second}")
        with open(self.service.folder / "kbs.toml", "a") as file:
            file.write(more)
        self.service.add_plain_listener()
        self.service.start()

    def configure(self, mode, rsa1_5, policy):
        folder = self.service.folder
        (folder / "issuer.pub.pem").write_bytes(self.issuer.public_pem())
        (folder / "resource-policy.json").write_text(json.dumps(ALLOW_SAMPLE))
        if mode is None:
            text = COMPAT
            text += "".join(ACL.format(role=role, endpoints=path) for role, path in ROLES.items())
        else:
            text = f'\ntrustee_compat = true\nauthorization_mode = "{mode}"\n'
        self.service.edit_config(r"^(keys = .*admin.*)$", lambda m: m.group(1) + text)
        if rsa1_5:
            self.service.edit_config(r"^(allow_sample = .*)$", r"\1\nallow_rsa1_5 = true")
        if policy:
            with open(folder / "kbs.toml", "a") as file:
                file.write('\n[[plugins]]\nname = "resource"\npolicy = "resource-policy.json"\n')

    def stop(self):
        for one in self.made:
            one.close()
        self.service.stop()

    def keep(self, client):
        self.made.append(client)
        return client

    @property
    def url(self):
        return self.service.guest_url

    @property
    def plain_url(self):
        return self.service.plain_url

    @property
    def ca(self):
        return str(self.service.ca)

    def attester(self, **options):
        return self.keep(Attester(self.url, self.ca, pause_s=0, **options))

    def token_holder(self, provider):
        return self.keep(TokenHolder(self.url, provider, self.ca))

    def client(self, token=None, role="admin", **changes):
        """kbs-client with an administrator's token: of this role, or this very one."""
        return self.keep(Client(self.service.admin_url, self.ca, token or self.issuer.token(role, **changes)))

    def anonymous(self):
        return self.keep(Client(self.service.admin_url, self.ca))

    def strict(self):
        """Another service, with RSA1_5 as it is by default; rows that set a resource policy set it there."""
        return self.worlds.get("strict", rsa1_5=False)

    def without_policy(self):
        """Another service, which gives what comes from kbs-client no release policy."""
        return self.worlds.get("without-policy", policy=False)

    def limited(self):
        """Another service, where one source may begin few handshakes."""
        return self.worlds.get("limited", auth_per_second=1)

    def mode(self, name):
        """Another service, with this authorization_mode."""
        return self.worlds.get(name, mode=name)

    def folder(self):
        return self.worlds.factory.mktemp("work")

    def put(self, path, value):
        self.client().set_resource(path, value)
        return value
