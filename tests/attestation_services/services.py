"""Attestation services to be asked over real HTTP: CoCo's by REST in both shapes and by gRPC, Intel Trust Authority. They
answer as theirs do, or lie, by name:

    honest          evidence is looked at, and what it carries is told
    own-key         names a TEE key of its own in the token, for genuine evidence
    no-binding      says yes without comparing the report data with the runtime data, and tells the evidence's report data
    echo            the same, but tells the report data that was asked for: as if it had compared
    other-session   answers with a token that is right for another handshake
    outsider        a token of its own making is signed by a key that nobody trusts
    old             a token that was good an hour ago
    silent          says nothing of runtime data and report data
and what is no answer: refuse, trouble, html, hang, die, huge, nonsense, empty.
"""
import base64
import http.server
import json
import threading
import time
from concurrent import futures

from minting import EsKey, PsKey, digest_of, ear, ita, jws, submod, unb64u

HUGE = 3 << 20


class Part:
    """A piece of evidence as a service was given it."""

    def __init__(self, tee, evidence, runtime_data, algorithm):
        self.tee, self.evidence, self.runtime_data = tee, evidence, runtime_data
        self.expected = digest_of(runtime_data, algorithm)

    def report_data(self):
        """What is in the evidence; only kinds that the tests have."""
        if self.tee.startswith("sample"):
            return base64.b64decode(self.evidence["report_data"])
        if self.tee == "snp":
            return bytes(self.evidence["attestation_report"]["report_data"])
        if self.tee == "se":
            return base64.b64decode(self.evidence["user_data"])[:64]
        if self.tee == "tdx":
            return base64.b64decode(self.evidence["quote"])[568:632]
        return None


def holds(part):
    found = part.report_data()
    return found is None or found.ljust(64, b"\0") == part.expected.ljust(64, b"\0")


class Refused(Exception):
    pass


class Service:
    """What is common: how to lie, and what was asked."""
    name = ""

    def __init__(self):
        self.key = EsKey()
        self.outsider = EsKey()
        self.attacker_jwk = EsKey().jwk() | {"alg": "ECDH-ES+A256KW"}
        self.lie = "honest"
        self.asked = []        # bodies
        self.headers = []      # of them
        self.tokens = []       # that were right for their handshakes
        self.hanging = threading.Event()
        self.let_go = threading.Event()
        self.waiting = 0

    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def submods(self, parts):
        all_of_them = {}
        for i, part in enumerate(parts):
            runtime_data, digest = part.runtime_data, part.report_data() or part.expected
            if self.lie in ("honest", "old", "outsider", "silent", "other-session", "own-key") and not holds(part):
                raise Refused("REPORT_DATA is different from that in evidence")
            if self.lie == "echo":
                digest = part.expected
            if self.lie == "own-key":
                runtime_data = runtime_data | {"tee-pubkey": self.attacker_jwk}
                digest = digest_of(runtime_data, "sha384")
            claims = {k: v for k, v in part.evidence.items() if k == "svn"} if part.tee.startswith("sample") else {"measurement": "00"}
            one = submod(part.tee, claims, runtime_data, digest)
            if self.lie == "silent":
                for name in ("report_data", "runtime_data_claims"):
                    del one["ear.veraison.annotated-evidence"][name]
            all_of_them["cpu0" if i == 0 else f"gpu{i - 1}"] = one
        return all_of_them

    def token(self, parts):
        if self.lie == "other-session":
            return self.tokens[-1]
        key = self.outsider if self.lie == "outsider" else self.key
        now = time.time() - (3600 if self.lie == "old" else 0)
        token = jws(key, ear(self.submods(parts), now), jwk=key.jwk())
        if self.lie == "honest":
            self.tokens.append(token)
        return token

    def hang(self):
        self.waiting += 1
        self.hanging.set()
        self.let_go.wait(60)

    def close(self):
        self.let_go.set()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="text/plain; charset=utf-8"):
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(*self.server.service.get(self.path))

    def do_POST(self):
        service = self.server.service
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.asked.append((self.path, body))
        service.headers.append(dict(self.headers.items()))
        lie = service.lie
        if lie == "hang":
            service.hang()
            self.close_connection = True
        elif lie == "die":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
            self.close_connection = True
        elif lie == "refuse":
            self.answer(500, b"An internal error occured: verifier evaluate failed: <secret of the service>")
        elif lie == "trouble":
            self.answer(503, b"later")
        elif lie == "nonsense":
            self.answer(200, b"\x00\xff not a token")
        elif lie == "empty":
            self.answer(200, b"")
        elif lie == "huge":
            self.answer(200, b"a" * HUGE)
        else:
            try:
                status, text, content_type = service.post(self.path, json.loads(body))
                self.answer(status, text.encode(), "text/html" if lie == "html" else content_type)
            except Refused as why:
                self.answer(500, str(why).encode())


class HttpService(Service):
    def __init__(self):
        super().__init__()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.service = self
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def get(self, _):
        return 404, b""

    def close(self):
        super().close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


class CocoRest(HttpService):
    """POST /attestation in the current and the older shape, POST /challenge."""
    type = "coco_as_rest"
    challenge = json.dumps({"request_blob": "eA==", "measurement_size": 64, "image_hdr_tags": [1] * 208})

    def get(self, path):
        if path == "/.well-known/jwks.json":
            return 200, json.dumps({"keys": [self.key.jwk() | {"kid": "as", "use": "sig"}]}).encode(), "application/json"
        return super().get(path)

    @staticmethod
    def part(request):
        assert set(request) <= {"tee", "evidence", "runtime_data", "runtime_data_hash_algorithm", "init_data", "policy_ids",
                                "init_data_hash_algorithm"}, request.keys()
        return Part(request["tee"], json.loads(unb64u(request["evidence"])), request["runtime_data"]["structured"],
                    request["runtime_data_hash_algorithm"])

    def post(self, path, body):
        if path == "/challenge":
            assert body["tee"] == "se" and isinstance(body["tee_params"], str)
            return 200, self.challenge, "text/plain; charset=utf-8"
        assert path == "/attestation" and body["policy_ids"] == ["default"]
        if self.type == "coco_as_rest_v1":
            parts = [self.part(body)]
        else:
            assert set(body) == {"verification_requests", "policy_ids"}
            parts = [self.part(one) for one in body["verification_requests"]]
        return 200, self.token(parts), "text/plain; charset=utf-8"


class IntelTa(HttpService):
    """POST /appraisal/v2/attest."""
    type = "intel_ta"
    kid = "ita-1"

    def __init__(self):
        super().__init__()
        self.key = PsKey()

    def get(self, path):
        return 200, json.dumps(self.key.jwks(self.kid)).encode(), "application/json"

    def post(self, path, body):
        assert path == "/appraisal/v2/attest" and body["policy_must_match"] is True and body["token_signing_alg"] == "PS384"
        text = base64.b64decode(body["tdx"]["runtime_data"])
        part = Part("tdx", {"quote": body["tdx"]["quote"]}, json.loads(text), "sha512")
        if not holds(part):
            raise Refused("quote and runtime data do not belong together")
        claims = ita(part.runtime_data, part.report_data())
        return 200, json.dumps({"token": jws(self.key, claims, kid=self.kid)}), "application/json"


def messages():
    """protos/attestation.proto, by the protobuf library."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    string, message = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
    one, many = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    file = descriptor_pb2.FileDescriptorProto(name="attestation.proto", package="attestation", syntax="proto3")
    shapes = {
        "IndividualAttestationRequest": [("tee", 1, string, one, ""), ("evidence", 3, string, one, ""),
                                         ("raw_runtime_data", 4, string, one, ""), ("structured_runtime_data", 5, string, one, ""),
                                         ("init_data_digest", 6, string, one, ""), ("init_data_toml", 7, string, one, ""),
                                         ("runtime_data_hash_algorithm", 8, string, one, "")],
        "AttestationRequest": [("verification_requests", 1, message, many, ".attestation.IndividualAttestationRequest"),
                               ("policy_ids", 2, string, many, "")],
        "AttestationResponse": [("attestation_token", 1, string, one, "")],
        "Entry": [("key", 1, string, one, ""), ("value", 2, string, one, "")],
        "ChallengeRequest": [("inner", 1, message, many, ".attestation.Entry")],
        "ChallengeResponse": [("attestation_challenge", 1, string, one, "")],
    }
    for name, fields in shapes.items():
        shape = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            made = shape.field.add(name=field, number=number, type=kind, label=label)
            if of:
                made.type_name = of
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {name: factory.GetPrototype(pool.FindMessageTypeByName("attestation." + name)) for name in shapes}


class CocoGrpc(Service):
    """AttestationEvaluate and GetAttestationChallenge, served by grpc's own library."""
    type = "coco_as_grpc"
    challenge = CocoRest.challenge

    def __init__(self):
        import grpc
        super().__init__()
        self.grpc = grpc
        self.types = messages()
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        service = "attestation.AttestationService"
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {
            "AttestationEvaluate": grpc.unary_unary_rpc_method_handler(self.evaluate),
            "GetAttestationChallenge": grpc.unary_unary_rpc_method_handler(self.get_challenge)}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def evaluate(self, raw, context):
        self.asked.append(("AttestationEvaluate", raw))
        request = self.types["AttestationRequest"].FromString(raw)
        assert list(request.policy_ids) == ["default"]
        if self.lie == "hang":
            self.hang()
            context.abort(self.grpc.StatusCode.UNAVAILABLE, "shutting down")
        if self.lie == "refuse":
            context.abort(self.grpc.StatusCode.ABORTED, "verifier evaluate failed")
        if self.lie == "trouble":
            context.abort(self.grpc.StatusCode.UNAVAILABLE, "later")
        parts = [Part(one.tee, json.loads(unb64u(one.evidence)), json.loads(one.structured_runtime_data),
                      one.runtime_data_hash_algorithm) for one in request.verification_requests]
        try:
            token = self.token(parts)
        except Refused as why:
            context.abort(self.grpc.StatusCode.ABORTED, str(why))
        return self.types["AttestationResponse"](attestation_token=token).SerializeToString()

    def get_challenge(self, raw, context):
        inner = {entry.key: entry.value for entry in self.types["ChallengeRequest"].FromString(raw).inner}
        assert inner["tee"] == "se" and "tee_params" in inner
        return self.types["ChallengeResponse"](attestation_challenge=self.challenge).SerializeToString()

    def close(self):
        super().close()
        self.server.stop(0).wait(10)
