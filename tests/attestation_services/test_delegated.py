"""Evidence that an attestation service verifies: through each of their APIs, when they have trouble, and when they lie."""
import json
import os
import re
import signal
import threading
import time

import pytest

import conftest
from kbsguest import Guest, unb64u
from minting import digest_of, ear, jws, submod
from service import wait_until
from services import CocoGrpc, CocoRest, IntelTa
from world import World, make_snp

REST_V1 = type("CocoRestV1", (CocoRest,), {"type": "coco_as_rest_v1"})


def claims_of(token):
    return json.loads(unb64u(token.split(".")[1]))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Sample, TDX and SE by the service alone, SNP by both; its tokens count as passports, too."""
    asked = CocoRest()
    one = World(tmp_path_factory.mktemp("delegated"), asked, snp=True, passport=True).start()
    one.keys(*conftest.LEVELS)
    yield one
    print(one.service.log_text()[-20000:])
    one.stop()
    asked.close()


@pytest.fixture(autouse=True)
def honest(request):
    yield
    if "world" in request.fixturenames:
        request.getfixturevalue("world").asked.lie = "honest"


def refused(world, answer, text):
    assert answer.status == 401, answer.body
    assert answer.json()["detail"].startswith("Attestation error: RCAR handshake Attest failed: "), answer.body
    assert re.search(text, answer.json()["detail"]), answer.body
    assert "secret of the service" not in answer.body.decode()
    record = world.service.records("attest-refused")[-1]
    assert (record["mode"], record["issuer"]) == ("delegated" if record["tee"] != "snp" else "both", "as")
    assert re.search(text, record["reason"])


def busy(answer, text):
    assert answer.status == 503, answer.body
    assert answer.headers["retry-after"] == "1"
    assert re.search(text, answer.json()["detail"]), answer.body


# ---- what it comes to

@pytest.mark.parametrize("tee", ["sample", "tdx", "se"])
def test_delegated(world, tee):
    guest = world.guest(tee).attested()
    assert guest.releases("evidence") and not guest.releases("full")
    assert guest.releases("evidence", {"Authorization": "Bearer " + guest.token})
    cpu = claims_of(guest.token)["submods"]["cpu0"]
    assert cpu["ear.status"] == "affirming" and cpu["ear.kbs-hsm.authority"] == "CoCo-Attestation-Service"
    assert tee in cpu["ear.veraison.annotated-evidence"]
    record = world.service.records("attest")[-1]
    assert {name: record[name] for name in ("outcome", "mode", "issuer", "binding", "status", "tee")} == {
        "outcome": "attested", "mode": "delegated", "issuer": "as", "binding": "evidence", "status": "affirming", "tee": tee}


def test_both(world):
    """The worse of two appraisals, the claims and the level of our own."""
    guest = world.guest("snp").attested()
    assert guest.releases("full")
    cpu = claims_of(guest.token)["submods"]["cpu0"]
    assert cpu["ear.status"] == "warning" and "ear.kbs-hsm.authority" not in cpu
    assert cpu["ear.kbs-hsm.delegated"]["ear.status"] == "affirming"
    assert cpu["ear.kbs-hsm.delegated"]["ear.kbs-hsm.authority"] == "CoCo-Attestation-Service"
    assert "chip_id" in json.dumps(cpu["ear.veraison.annotated-evidence"]["snp"])
    record = world.service.records("attest")[-1]
    assert (record["mode"], record["binding"], record["status"]) == ("both", "full", "warning")


def test_devices(world):
    guest = world.guest(device=True).attested()
    submods = claims_of(guest.token)["submods"]
    assert set(submods) == {"cpu0", "gpu0"}
    assert "sampledevice" in submods["gpu0"]["ear.veraison.annotated-evidence"]
    assert len(json.loads(world.asked.asked[-1][1])["verification_requests"]) == 2


def test_challenge_of_the_service(world):
    """IBM Secure Execution: the whole text is the nonce."""
    guest = world.guest("se").begin()
    assert guest.nonce == world.asked.challenge
    asked = json.loads(world.asked.asked[-1][1])
    assert asked["tee"] == "se" and "supported-hash-algorithms" in asked["tee_params"]


def test_challenge_when_the_service_has_trouble(world):
    world.asked.lie = "trouble"
    busy(Guest(world.service.guest_url, world.service.ca).auth(tee="se"), "has trouble")


def test_init_data_that_is_not_the_tees(world):
    guest = world.guest("sample").begin()
    message = guest.message()
    message["init-data"] = {"format": "toml", "body": 'version = "0.1.0"\nalgorithm = "sha256"\n\n[data]\n'}
    assert guest.attest(message).status == 200  # the sample has no such field, and nothing is claimed of it
    assert "init_data" not in claims_of(guest.token)["submods"]["cpu0"]["ear.veraison.annotated-evidence"]


# ---- when it is not there, or not itself

@pytest.mark.parametrize("lie, text", [
    ("trouble", "has trouble"), ("html", "content type"), ("die", "cannot be reached"), ("huge", "more than anybody"),
    ("nonsense", "something else than a token|cannot be read"), ("empty", "cannot be read"), ("hang", "in time")])
def test_no_answer(world, lie, text):
    guest = world.guest().begin()
    message = guest.message()
    world.asked.lie = lie
    busy(guest.attest(message), text)
    world.asked.let_go.set()
    world.asked.let_go.clear()
    world.asked.lie = "honest"
    assert guest.attest(message).status == 200  # the nonce was not used up


def test_it_says_no(world):
    guest = world.guest().begin()
    world.asked.lie = "refuse"
    refused(world, guest.attest(guest.message()), r"refused the evidence \(status 500\)")
    assert "secret of the service" in world.service.log_text()


def test_a_guest_that_is_refused_here_is_not_handed_on(world):
    guest = world.guest().begin()
    before = len(world.asked.asked)
    refused(world, guest.attest(guest.message(report_data=os.urandom(48))), "report")
    assert len(world.asked.asked) == before


# ---- when it lies: which level stops what

def passport(world, guest, token):
    """At level `token` a token of the service is all there is: it comes with the request."""
    return guest.releases("token", {"Authorization": "Bearer " + token})


def tee_of(level):
    return "snp" if level == "full" else "sample"


def reached(world, guest, message, level, lie):
    world.asked.lie = lie
    answer = guest.attest(message)
    world.asked.lie = "honest"
    return answer.status == 200 and guest.releases(level)


def attack_own_key(world, level):
    """The service names a key of its own in the token of a genuine guest."""
    guest = world.guest(tee_of(level)).begin()
    message = guest.message()
    if level != "token":
        return reached(world, guest, message, level, "own-key")
    evidence = message["runtime-data"] | {"tee-pubkey": world.asked.attacker_jwk, "additional-evidence": ""}
    token = jws(world.asked.key, ear({"cpu0": submod("sample", {"svn": "1"}, evidence, digest_of(evidence, "sha384"))}))
    return passport(world, guest, token)


def attack_no_binding(world, level, lie):
    """An attacker's key beside evidence of somebody else, which the service does not compare."""
    victim = world.guest(tee_of(level)).begin()
    stolen = victim.message()
    guest = world.guest(tee_of(level)).begin()
    message = guest.message()
    message["tee-evidence"]["primary_evidence"] = stolen["tee-evidence"]["primary_evidence"]
    if level != "token":
        return reached(world, guest, message, level, lie)
    runtime = message["runtime-data"] | {"additional-evidence": ""}
    told = victim.digest if lie == "no-binding" else guest.digest
    return passport(world, guest, jws(world.asked.key, ear({"cpu0": submod("sample", {"svn": "1"}, runtime, told)})))


def attack_other_session(world, level):
    """A token that was right for the handshake of another guest."""
    other = world.guest().attested()
    token = world.asked.tokens[-1]
    other.close()
    guest = world.guest(tee_of(level)).begin()
    if level == "token":
        return passport(world, guest, token)
    return reached(world, guest, guest.message(), level, "other-session")


def attack_invented(world, level):
    """No TEE at all: evidence that anybody can write, and the service calls it affirming."""
    guest = world.guest(tee_of(level), changes=("forged",) if level == "full" else ()).begin()
    message = guest.message()
    if level != "token":
        return reached(world, guest, message, level, "honest")
    runtime = message["runtime-data"] | {"additional-evidence": ""}
    return passport(world, guest, jws(world.asked.key, ear({"cpu0": submod("sample", {"svn": "1"}, runtime, guest.digest)})))


def attack_token(world, level, key, age):
    """A token that is right in all but who signed it, or when."""
    guest = world.guest(tee_of(level)).begin()
    message = guest.message()
    if level != "token":
        return reached(world, guest, message, level, "outsider" if key else "old")
    runtime = message["runtime-data"] | {"additional-evidence": ""}
    signer = world.asked.outsider if key else world.asked.key
    return passport(world, guest, jws(signer, ear({"cpu0": submod("sample", {"svn": "1"}, runtime, guest.digest)}, time.time() - age)))


STOPPED, NOT = "stopped", "NOT STOPPED"
ATTACKS = {
    "names its own TEE key in the token":
        (attack_own_key, {"token": NOT, "session": STOPPED, "evidence": STOPPED, "full": STOPPED}),
    "compares nothing, repeats the evidence":
        (lambda w, level: attack_no_binding(w, level, "no-binding"),
         {"token": STOPPED, "session": STOPPED, "evidence": STOPPED, "full": STOPPED}),
    "compares nothing, says it had":
        (lambda w, level: attack_no_binding(w, level, "echo"),
         {"token": NOT, "session": NOT, "evidence": STOPPED, "full": STOPPED}),
    "answers with another handshake's token":
        (attack_other_session, {"token": NOT, "session": STOPPED, "evidence": STOPPED, "full": STOPPED}),
    "calls invented evidence genuine":
        (attack_invented, {"token": NOT, "session": NOT, "evidence": NOT, "full": STOPPED}),
    "token signed by an outsider":
        (lambda w, level: attack_token(w, level, True, 0), dict.fromkeys(conftest.LEVELS, STOPPED)),
    "token of an hour ago":
        (lambda w, level: attack_token(w, level, False, 3600), dict.fromkeys(conftest.LEVELS, STOPPED)),
}


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Its judge is built to find no report data, so that `session` is as far as it gets."""
    asked = CocoRest()
    one = World(tmp_path_factory.mktemp("blind"), asked, lanes=1, blind=True, tees=["sample"]).start()
    one.keys("session")
    yield one
    one.stop()
    asked.close()


@pytest.mark.parametrize("level", conftest.LEVELS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_level_against_attack(request, attack, level):
    play, expected = ATTACKS[attack]
    where = request.getfixturevalue("blind" if level == "session" else "world")
    found = NOT if play(where, level) else STOPPED
    conftest.TABLE.setdefault(attack, {})[level] = found
    assert found == expected[level]


@pytest.mark.parametrize("level", ["session", "evidence", "full"])
def test_each_level_is_reached(request, level):
    """The rows above would be worth nothing if nobody got there."""
    where = request.getfixturevalue("blind" if level == "session" else "world")
    assert where.guest(tee_of(level)).attested().releases(level)


@pytest.mark.parametrize("lie, text", [
    ("own-key", "TEE key|runtime data"), ("other-session", "session's|another"), ("outsider", "signature"), ("old", "exp|old|age"),
    ("silent", "no TEE key")])
def test_what_is_said_of_a_lie(world, lie, text):
    world.guest().attested()
    guest = world.guest().begin()
    message = guest.message()
    world.asked.lie = lie
    refused(world, guest.attest(message), text)


def test_both_must_agree(world):
    """Either alone is not enough."""
    guest = world.guest("snp").begin()
    message = guest.message()
    world.asked.lie = "refuse"
    refused(world, guest.attest(message), "refused the evidence")
    world.asked.lie = "honest"
    message["tee-evidence"]["primary_evidence"] = make_snp(world.pki, guest.digest, "debug")
    before = len(world.asked.asked)
    refused(world, guest.attest(message), "debug")
    assert len(world.asked.asked) == before  # it was not even asked


# ---- others are served while it hangs

def spread(times):
    times = sorted(times)
    return f"median {1000 * times[len(times) // 2]:.1f} ms, worst {1000 * times[-1]:.1f} ms"


def traffic(guest, until=lambda: False, rounds=40):
    """How long each of some releases takes; the last one counts only if `until` is not there yet."""
    times = []
    while len(times) < rounds:
        started = time.monotonic()
        assert guest.releases("evidence")
        if until():
            break
        times.append(time.monotonic() - started)
    return times


def test_hanging_service_holds_nobody_up(world):
    lanes, hanging = 2, 12
    other = world.guest().attested()
    idle = traffic(other)
    guests = [world.guest().begin() for _ in range(hanging)]
    messages = [guest.message() for guest in guests]
    world.asked.lie = "hang"
    world.asked.waiting = 0
    answers = []
    threads = [threading.Thread(target=lambda g=g, m=m: answers.append(g.attest(m))) for g, m in zip(guests, messages)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while world.asked.waiting < hanging and time.monotonic() < end:
        assert world.asked.hanging.wait(10)
        other.releases("evidence")
    assert world.asked.waiting == hanging
    beside = traffic(other, until=lambda: answers)
    assert beside  # served while all of them hung
    world.asked.let_go.set()
    for thread in threads:
        thread.join(30)
    world.asked.let_go.clear()
    for answer in answers:
        busy(answer, "in time|cannot be reached")
    conftest.LATENCY.append(f"a release beside {hanging} handshakes that hang, on {lanes} lanes: {spread(beside)}; idle: {spread(idle)}")


def test_kbs_fetch_dies(world):
    """Who waits for it is told at once; its successor serves the next one, in the same lanes."""
    guest = world.guest().begin()
    message = guest.message()
    world.asked.lie = "hang"
    world.asked.hanging.clear()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(guest.attest(message)))
    judges = world.service.pids("kbs-judge")
    pid, = world.service.pids("kbs-fetch")
    thread.start()
    assert world.asked.hanging.wait(10)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    busy(answers[0], "cannot be reached")
    world.asked.let_go.set()
    world.asked.let_go.clear()
    world.asked.lie = "honest"
    wait_until(lambda: world.service.pids("kbs-fetch") not in ([], [pid]), what="another kbs-fetch")
    wait_until(lambda: guest.attest(message).status == 200, what="a handshake by way of it")
    assert world.service.pids("kbs-judge") == judges


# ---- the other APIs; last, for the service is started again

@pytest.mark.parametrize("api, tee", [(REST_V1, "sample"), (CocoGrpc, "tdx"), (IntelTa, "tdx")],
                         ids=["coco_as_rest_v1", "coco_as_grpc", "intel_ta"])
def test_other_apis(world, api, tee):
    before = world.asked
    world.stop()
    asked = api()
    try:
        world.start(asked)
        guest = world.guest(tee).attested()
        assert guest.releases("evidence") and asked.asked
        assert claims_of(guest.token)["submods"]["cpu0"]["ear.status"] in ("affirming", "warning")
        guest = world.guest(tee).begin()
        message = guest.message()
        asked.lie = "refuse"
        refused(world, guest.attest(message), "refused the evidence")
        asked.lie = "hang"
        threading.Timer(0.2, asked.let_go.set).start()  # it breaks off
        busy(guest.attest(message), "cannot be reached|trouble")
        if api is CocoGrpc:
            assert world.guest("se").begin().nonce == asked.challenge
    finally:
        asked.close()
        world.stop()
        world.asked = before
