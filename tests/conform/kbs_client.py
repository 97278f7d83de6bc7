#!/usr/bin/env python3
"""kbs-client's command line, for the commands of an operator who moves: attest, get-resource and config. It sends what kbs-client
sends and calls success what kbs-client calls success: HTTP 200 and nothing else.

Exit status 0, or 1 with the reason on standard error.
"""
import argparse
import base64
import json
import pathlib
import sys
import urllib.parse

from guest import Attester, KbsError, TokenHolder
from teekey import EcKey, Refused, b64u, compact, load_key
from transport import HttpClient

TOKEN_FILES = ("kbs/config/docker-compose/admin-token", "~/.trustee/admin-token")
# What the switches of set-resource-policy send. The text of --default is deny-all: that is what kbs-client does.
DENY_ALL = "package policy\n\ndefault allow = false\n"
ALLOW_ALL = 'package policy\n\ndefault allow = false\n\nallow if {\n    data["plugin"] == "resource"\n}\n'
AFFIRMING = ('package policy\n\nimport rego.v1\n\ndefault allow = false\n\nallow if {\n    count(input.submods) > 0\n'
             '    every _, submod in input.submods {\n        submod["ear.status"] == "affirming"\n    }\n}\n')


class RequestFailed(Exception):
    pass


class Client:
    """Requests of an administrator: a Bearer token, or nothing at all when there is none."""

    def __init__(self, url, cert=None, token=None):
        self.http = HttpClient(url, cert, user_agent="kbs-client/0.1.0", cookies=False)
        self.token = token

    def close(self):
        self.http.close()

    def send(self, method, target, body=None, content_type=None):
        """The answer, whatever it is."""
        headers = {} if content_type is None else {"content-type": content_type}
        if self.token is not None:
            headers["authorization"] = "Bearer " + self.token
        return self.http.request(method, target, body, headers)

    def ask(self, method, target, body=None, content_type=None):
        answer = self.send(method, target, body, content_type)
        if answer.status != 200:
            raise RequestFailed(f"Request Failed, Response: {answer.status} {answer.body.decode(errors='replace')}")
        return answer

    def ask_json(self, method, target, message):
        return self.ask(method, target, compact(message).encode(), "application/json")

    def set_resource(self, path, value):
        return self.ask("POST", f"/kbs/v0/resource/{path}", value, "application/octet-stream")

    def delete_resource(self, path):
        return self.ask("DELETE", f"/kbs/v0/resource/{path}")

    def list_resources(self):
        """Newer than kbs-client's snapshot: the request of the pull request that added it."""
        return self.ask("GET", "/kbs/v0/resource")

    def set_resource_policy(self, text):
        return self.ask_json("POST", "/kbs/v0/resource-policy", {"policy": b64u(text.encode())})

    def list_resource_policies(self):
        return self.ask("GET", "/kbs/v0/resource-policy")

    def set_attestation_policy(self, text, policy_id="default_cpu", kind="rego"):
        return self.ask_json("POST", "/kbs/v0/attestation-policy",
                             {"type": kind, "policy_id": policy_id, "policy": b64u(text.encode())})

    def set_sample_reference_value(self, name, value):
        payload = base64.b64encode(compact({name: value}).encode()).decode()
        return self.ask_json("POST", "/kbs/v0/reference-value", {"version": "0.1.0", "type": "sample", "payload": payload})

    def get_reference_value(self, name):
        return self.ask("GET", "/kbs/v0/reference-value/" + urllib.parse.quote(name))


def options():
    parser = argparse.ArgumentParser(prog="kbs-client")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--cert-file")
    commands = parser.add_subparsers(dest="command", required=True)

    attest = commands.add_parser("attest")
    attest.add_argument("--tee-key-file")
    attest.add_argument("init_data", nargs="?")

    get = commands.add_parser("get-resource")
    get.add_argument("--path", required=True)
    get.add_argument("--tee-key-file")
    get.add_argument("--attestation-token")
    get.add_argument("init_data", nargs="?")

    config = commands.add_parser("config")
    config.add_argument("--admin-token-file")
    config = config.add_subparsers(dest="config", required=True)
    one = config.add_parser("set-attestation-policy")
    one.add_argument("--type", default="rego")
    one.add_argument("--id", default="default_cpu")
    one.add_argument("--policy-file", required=True)
    one = config.add_parser("set-resource-policy").add_mutually_exclusive_group(required=True)
    one.add_argument("--policy-file")
    for name in ("allow-all", "deny-all", "affirming", "default"):
        one.add_argument("--" + name, action="store_true")
    one = config.add_parser("set-resource")
    one.add_argument("--path", required=True)
    one.add_argument("--resource-file", required=True)
    config.add_parser("delete-resource").add_argument("--path", required=True)
    config.add_parser("get-reference-value").add_argument("--id", required=True)
    one = config.add_parser("set-sample-reference-value")
    one.add_argument("name")
    one.add_argument("value")
    kind = one.add_mutually_exclusive_group()
    kind.add_argument("--as-integer", action="store_true")
    kind.add_argument("--as-bool", action="store_true")
    one.add_argument("--as-single-value", action="store_true")
    return parser


def read(path):
    return pathlib.Path(path).expanduser().read_bytes()


def admin_token(given):
    for path in [given] if given else TOKEN_FILES:
        if given or pathlib.Path(path).expanduser().exists():
            return read(path).decode().strip()
    return None


def tee_key(given):
    return load_key(read(given)) if given else EcKey()


class KeptToken:
    """--attestation-token with --tee-key-file: nothing is asked of anybody when it does not do."""

    def __init__(self, token, key):
        self.token = token, key

    def get_token(self):
        return self.token


def attested(args):
    init_data = read(args.init_data).decode() if args.init_data else None
    return Attester(args.url, args.cert_file, tee_key(args.tee_key_file), init_data=init_data)


def get_resource(args):
    if args.attestation_token is None:
        return attested(args).get_resource(args.path)
    if args.tee_key_file is None:
        raise RequestFailed("--attestation-token needs --tee-key-file")
    kept = KeptToken(read(args.attestation_token).decode().strip(), tee_key(args.tee_key_file))
    return TokenHolder(args.url, kept, args.cert_file).get_resource(args.path)


def reference_value(args):
    value = args.value
    if args.as_integer:
        value = int(value)
    elif args.as_bool:
        value = {"true": True, "false": False}[value]
    return value if args.as_single_value else [value]


def configure(args):
    client = Client(args.url, args.cert_file, admin_token(args.admin_token_file))
    if args.config == "set-attestation-policy":
        client.set_attestation_policy(read(args.policy_file).decode(), args.id, args.type)
        return "Set attestation policy success"
    if args.config == "set-resource-policy":
        texts = {"allow_all": ALLOW_ALL, "deny_all": DENY_ALL, "affirming": AFFIRMING, "default": DENY_ALL}
        chosen = next((text for name, text in texts.items() if getattr(args, name)), None)
        client.set_resource_policy(chosen if chosen is not None else read(args.policy_file).decode())
        return "Set resource policy success"
    if args.config == "set-resource":
        client.set_resource(args.path, read(args.resource_file))
        return "Set resource success"
    if args.config == "delete-resource":
        client.delete_resource(args.path)
        return "Delete resource success"
    if args.config == "set-sample-reference-value":
        client.set_sample_reference_value(args.name, reference_value(args))
        return "Reference Values Updated"
    return json.dumps(json.loads(client.get_reference_value(args.id).body))


def main(argv=None):
    args = options().parse_args(argv)
    try:
        if args.command == "attest":
            print(attested(args).get_token()[0])
        elif args.command == "get-resource":
            print(base64.b64encode(get_resource(args)).decode())
        else:
            print(configure(args))
    except (KbsError, Refused, RequestFailed, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
