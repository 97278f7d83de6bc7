"""Rows of the conformance table about kbs-client's command line, run as the program that an operator runs."""
import base64
import pathlib
import subprocess
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from rows_handshake import attested
from table import row

CLIENT = pathlib.Path(__file__).with_name("kbs_client.py")
PATH = "shop/commands/secret"
TIMEOUT_S = 120


class Commands:
    """kbs-client in a folder of its own, with an administrator's token as its file."""

    def __init__(self, world, service=None):
        self.world = service or world
        self.folder = world.folder()
        self.file("admin-token", world.issuer.token().encode())

    def file(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def run(self, *argv, url, check=True):
        program = [sys.executable, "-B", str(CLIENT), "--url", url, "--cert-file", self.world.ca]
        done = subprocess.run([*program, *argv], cwd=self.folder, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return done.stdout.strip() if check else done.stderr

    def guest(self, *argv, check=True):
        return self.run(*argv, url=self.world.url, check=check)

    def config(self, *argv, check=True, token=True):
        file = ["--admin-token-file", "admin-token"] if token else []
        return self.run("config", *file, *argv, url=self.world.service.admin_url, check=check)

    def set(self, value, path=PATH):
        self.config("set-resource", "--path", path, "--resource-file", self.file("value", value))

    def get(self, *argv, path=PATH):
        return base64.b64decode(self.guest("get-resource", "--path", path, *argv), validate=True)


@row("kbs-client", "config set-resource, get-resource, config delete-resource")
def resources(world):
    commands = Commands(world)
    commands.set(b"by kbs-client")
    assert commands.get() == b"by kbs-client"
    commands.config("delete-resource", "--path", PATH)
    assert "not found" in commands.guest("get-resource", "--path", PATH, check=False)


@row("kbs-client", "attest; get-resource with --attestation-token and --tee-key-file (EC P-256 and P-521, RSA)")
def kept_token(world):
    commands = Commands(world)
    commands.set(b"by a kept token")
    for private, form in ((ec.generate_private_key(ec.SECP256R1()), serialization.PrivateFormat.PKCS8),
                          (ec.generate_private_key(ec.SECP521R1()), serialization.PrivateFormat.PKCS8),
                          (rsa.generate_private_key(65537, 2048), serialization.PrivateFormat.TraditionalOpenSSL)):
        pem = private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        key = ["--tee-key-file", commands.file("tee.pem", pem)]
        token = commands.guest("attest", *key)
        assert commands.get("--attestation-token", commands.file("token", token.encode()), *key) == b"by a kept token"


@row("kbs-client", "get-resource with init data")
def init_data(world):
    commands = Commands(world)
    commands.set(b"with init data")
    assert commands.get(commands.file("initdata.toml", b'algorithm = "sha256"\nversion = "0.1.0"\n')) == b"with init data"


@row("kbs-client", "config set-attestation-policy")
def attestation_policy(world):
    commands = Commands(world)
    file = commands.file("policy.rego", b'package policy\n\ntrust_claims := {"executables": 33}\n')
    empty = commands.file("empty.rego", b"")
    for options in ([], ["--id", "default_gpu", "--type", "rego"]):
        commands.config("set-attestation-policy", "--policy-file", file, *options)
        commands.config("set-attestation-policy", "--policy-file", empty, *options)  # takes it back


@row("kbs-client", "config set-resource-policy, from a file and by each switch")
def resource_policy(world):
    commands = Commands(world, world.strict())
    file = commands.file("policy.rego", b"package policy\n\ndefault allow = false\n")
    commands.config("set-resource-policy", "--policy-file", file)
    for switch in ("--allow-all", "--deny-all", "--affirming", "--default"):
        commands.config("set-resource-policy", switch)


@row("kbs-client", "config set-sample-reference-value, get-reference-value")
def reference_values(world):
    commands = Commands(world)
    for argv, shown in ((["svn", "1"], '["1"]'), (["svn", "1", "--as-integer"], "[1]"),
                        (["svn", "1", "--as-integer", "--as-single-value"], "1"), (["flag", "true", "--as-bool"], "[true]")):
        commands.config("set-sample-reference-value", *argv)
        assert commands.config("get-reference-value", "--id", argv[0]) == shown


@row("kbs-client", "without an administrator's token: refused, and it says why")
def anonymous(world):
    commands = Commands(world)
    assert "Admin access denied" in commands.config("delete-resource", "--path", PATH, check=False, token=False)


@row("kbs-client", "config against the guests' address is refused", differs="admin-listener")
def wrong_listener(world):
    commands = Commands(world)
    value = commands.file("value", b"x")
    commands.run("config", "--admin-token-file", "admin-token", "set-resource", "--path", PATH, "--resource-file", value,
                 url=world.url, check=False)


@row("kbs-client", "a resource set by kbs-admin (sealed) is got by kbs-client, and the other way")
def both(world):
    commands = Commands(world)
    world.service.admin("secret", "set", "shop/commands/sealed", "--file", commands.file("value", b"sealed"), "--policy",
                        world.service.policy_file())
    assert commands.get(path="shop/commands/sealed") == b"sealed"
    commands.set(b"in the clear", "shop/commands/clear")
    out = commands.folder / "out"
    world.service.guest("get-resource", "shop/commands/clear", "--out", out)
    assert out.read_bytes() == b"in the clear"
    assert attested(world).get_resource("shop/commands/clear") == b"in the clear"
