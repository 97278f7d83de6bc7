"""What kbs-fetch keeps: documents that are fetched by themselves, and answers that are kept on disk."""
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from courier import DONE, FAILED, Courier, document, endpoint
from pki import Authority
from servers import Server, in_turn, ok, unused_port

JWKS = b'{"keys":[]}'


def wait_for(judge, name, content, look_again=False):
    """The event is on another channel: asks until it is there."""
    deadline = time.monotonic() + 20
    while (got := judge.cached(name, look_again)) is None or got[0] != content:
        assert time.monotonic() < deadline, got
    return got[1]


def test_documents_are_fetched_at_the_start_and_kept_in_memory():
    with Server({"/jwks": ok(JWKS), "/crl": ok(b"\x30\x00", content_type="x")}) as server, \
            Courier([], [document("jwks/a", server.url + "/jwks"), document("crl", server.url + "/crl"),
                         document("gone", server.url + "/gone")]) as courier:
        judge, other = courier.judge(), courier.judge()
        begin = time.time()
        fetched_s = wait_for(judge, "jwks/a", JWKS)
        assert begin - 5 <= fetched_s <= time.time()
        wait_for(other, "crl", b"\x30\x00")
        assert judge.cached("gone") is None and judge.cached("jwks/b") is None
        n = sum(r[1] == "/jwks" for r in server.requests)
        for _ in range(50):
            assert judge.cached("jwks/a")[0] == JWKS
        assert sum(r[1] == "/jwks" for r in server.requests) == n == 1


def test_documents_are_refreshed_by_themselves():
    with Server({"/jwks": in_turn(ok(JWKS), ok(b'{"keys":[1]}'))}) as server, \
            Courier([], [document("jwks/a", server.url + "/jwks", refresh_s=1)]) as courier:
        judge = courier.judge()
        wait_for(judge, "jwks/a", b'{"keys":[1]}')
        server.wait(3)


def test_a_judge_has_it_looked_at_again_but_not_for_ever():
    with Server({"/jwks": in_turn(ok(JWKS), ok(b'{"keys":[1]}'), ok(b'{"keys":[2]}'))}) as server, \
            Courier([], [document("jwks/a", server.url + "/jwks")]) as courier:
        judge = courier.judge()
        wait_for(judge, "jwks/a", JWKS)
        assert judge.cached("jwks/a", look_again=True)[0] == JWKS  # at once, from memory
        wait_for(judge, "jwks/a", b'{"keys":[1]}', look_again=True)
        for _ in range(200):
            assert judge.cached("jwks/a", look_again=True)[0] == b'{"keys":[1]}'
        assert len(server.requests) == 2


def test_the_last_good_one_is_kept():
    bad = [ok(b"sorry", status=302, Location="http://127.0.0.1:1/"), ok(b"", status=200),
           ok(b"<html>sorry</html>", content_type="text/html"), ok(b"x" * ((1 << 20) + 1))]
    with Server({"/jwks": in_turn(ok(JWKS), *bad, ok(b'{"keys":[9]}'))}) as server, \
            Courier([], [document("jwks/a", server.url + "/jwks", refresh_s=1)]) as courier:
        judge = courier.judge()
        first_s = wait_for(judge, "jwks/a", JWKS)
        while len(server.requests) < len(bad) + 1:
            content, fetched_s = judge.cached("jwks/a")
            assert (content, fetched_s) == (JWKS, first_s)
        wait_for(judge, "jwks/a", b'{"keys":[9]}')
        for why in ("status 302", "the answer is empty", "no JSON object", "too large"):
            assert courier.said(why), why


def test_a_document_that_is_as_it_was_is_not_sent_again():
    def answer(handler):
        if handler.headers.get("If-None-Match") == '"v1"':
            handler.send_response(304)
            handler.end_headers()
        else:
            handler.reply(200, JWKS, ETag='"v1"')

    with Server({"/jwks": answer}) as server, \
            Courier([], [document("jwks/a", server.url + "/jwks", refresh_s=1)]) as courier:
        judge = courier.judge()
        first_s = wait_for(judge, "jwks/a", JWKS)
        server.wait(3)
        assert [r[2].get("If-None-Match") for r in server.requests[:3]] == [None, '"v1"', '"v1"']
        while judge.cached("jwks/a")[1] == first_s:
            pass
        assert judge.cached("jwks/a")[0] == JWKS


def test_documents_outlive_the_process(tmp_path):
    port, socket_ = unused_port()
    with socket_, Server({"/jwks": ok(JWKS)}) as server:
        at = [document("jwks/a", server.url + "/jwks"), document("jwks/b", f"http://127.0.0.1:{port}/")]
        with Courier([], at, cache=tmp_path) as courier:
            fetched_s = wait_for(courier.judge(), "jwks/a", JWKS)
            files = list(tmp_path.iterdir())
        assert [f.name for f in files] == ["doc-" + hashlib.sha256((server.url + "/jwks").encode()).hexdigest()]
        assert files[0].read_bytes() == JWKS and files[0].stat().st_mode & 0o777 == 0o600
        server.stop()
        (tmp_path / (files[0].name + ".AbCdEf")).write_text("half")  # of a write that was interrupted
        with Courier([], at, cache=tmp_path) as courier:
            judge = courier.judge()
            content, then_s = judge.cached("jwks/a")
            assert content == JWKS and abs(then_s - fetched_s) <= 1
            assert judge.cached("jwks/b") is None
            courier.wait_log("document-failed name=jwks/a")
            assert judge.cached("jwks/a")[0] == JWKS
        assert list(tmp_path.iterdir()) == files


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    with Server({"/jwks": ok(JWKS)}) as server:
        name = "doc-" + hashlib.sha256((server.url + "/jwks").encode()).hexdigest()
        (cache / name).mkdir()  # nothing can be written in its place
        with Courier([], [document("jwks/a", server.url + "/jwks")], cache=cache) as courier:
            wait_for(courier.judge(), "jwks/a", JWKS)
            courier.wait_log("event=cache")


# Discovery


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki"), "ca")


def discovery(server, pki, metadata, hosts=(), path=""):
    server.answers[f"{path}/.well-known/openid-configuration"] = ok(json.dumps(metadata).encode())
    return Courier([], [document("idp", server.url + path, ca=pki.pem, discovery=True, hosts=hosts)])


@pytest.mark.parametrize("path", ["", "/tenant"])
def test_discovery(pki, path):
    with Server({"/keys": ok(JWKS)}, tls=pki.server("idp")) as server:
        metadata = {"issuer": server.url + path, "jwks_uri": server.url + "/keys", "other": [1]}
        with discovery(server, pki, metadata, path=path) as courier:
            wait_for(courier.judge(), "idp", JWKS)
            assert [r[1] for r in server.requests] == [f"{path}/.well-known/openid-configuration", "/keys"]


def test_discovery_to_a_listed_host(pki):
    with Server({"/keys": ok(JWKS)}, tls=pki.server("keys", address="127.0.0.2")) as keys, \
            Server({}, tls=pki.server("idp")) as server:
        keys_url = f"https://127.0.0.2:{keys.port}/keys"
        metadata = {"issuer": server.url, "jwks_uri": keys_url}
        with discovery(server, pki, metadata) as courier:
            courier.wait_log("document-failed name=idp .*another host, which is not in jwks_hosts")
            assert courier.judge().cached("idp") is None and keys.requests == []


@pytest.mark.parametrize("change, why", [
    (dict(issuer="https://127.0.0.1:1"), "of another issuer"), (dict(issuer=None), "no JSON object with"),
    (dict(jwks_uri="http://127.0.0.1/keys"), "no URL that is followed"),
    (dict(jwks_uri="https://user@127.0.0.1/keys"), "no URL that is followed"),
    (dict(jwks_uri="file:///etc/passwd"), "no URL that is followed"), (dict(jwks_uri=7), "no JSON object with"),
    (dict(jwks_uri="https://evil.example/keys"), "another host")])
def test_discovery_that_leads_astray(pki, change, why):
    with Server({"/keys": ok(JWKS)}, tls=pki.server("idp")) as server:
        metadata = {"issuer": server.url, "jwks_uri": server.url + "/keys", **change}
        with discovery(server, pki, metadata) as courier:
            courier.wait_log(f"document-failed name=idp .*{why}")
            assert courier.judge().cached("idp") is None
            assert all(r[1].startswith("/.well-known") for r in server.requests)


def test_discovered_keys_are_json(pki):
    with Server({"/keys": ok(b"<html>")}, tls=pki.server("idp")) as server:
        with discovery(server, pki, {"issuer": server.url, "jwks_uri": server.url + "/keys"}) as courier:
            courier.wait_log("document-failed name=idp .*no JSON object")


# Answers that are kept


def name_of(url):
    return "get-" + hashlib.sha256(url.encode()).hexdigest()


def test_answers_are_kept_and_served_without_a_network(tmp_path):
    with Server({"/vcek/1": ok(b"certificate"), "/empty": ok(b"", status=204)}) as server:
        at = [endpoint("kds", server.url, keep_days=1), endpoint("as", server.url)]
        with Courier(at, cache=tmp_path) as courier:
            front = courier.front()
            for _ in range(3):
                got = front.fetch("kds", "/vcek/1")
                assert (got.outcome, got.status, got.body) == (DONE, 200, b"certificate")
            assert len(server.requests) == 1
            front.fetch("as", "/vcek/1")
            front.fetch("kds", "/vcek/2")
            front.fetch("kds", "/vcek/1", body=b"post")
            front.fetch("kds", "/empty")
            assert len(server.requests) == 5
            assert [f.name for f in tmp_path.iterdir()] == [name_of(server.url + "/vcek/1")]
        server.stop()
        with Courier(at, cache=tmp_path) as courier:
            front = courier.front()
            assert front.fetch("kds", "/vcek/1").body == b"certificate"
            assert front.fetch("kds", "/vcek/1", limit=5).outcome == FAILED  # too large for who asks
            assert front.fetch("kds", "/vcek/2").outcome == FAILED


def test_a_folder_filled_by_hand_does_without_a_network(tmp_path):
    """As an air-gapped service has it: the file's name is the hash of the URL."""
    (tmp_path / name_of("https://kds.example/vcek/v1/Milan/cert_chain")).write_bytes(b"chain")
    with Courier([endpoint("kds", "https://kds.example", keep_days=36500)], cache=tmp_path) as courier:
        assert courier.front().fetch("kds", "/vcek/v1/Milan/cert_chain").body == b"chain"
        assert not courier.said("fetch-failed")


def test_an_old_answer_is_asked_for_again_and_better_than_none(tmp_path):
    with Server({"/a": in_turn(ok(b"new"), ok(b"", status=503))}) as server:
        file = tmp_path / name_of(server.url + "/a")
        file.write_bytes(b"old")
        os.utime(file, (0, time.time() - 86400 - 60))
        with Courier([endpoint("kds", server.url, keep_days=1)], cache=tmp_path) as courier:
            front = courier.front()
            assert front.fetch("kds", "/a").body == b"new" and file.read_bytes() == b"new"
            assert front.fetch("kds", "/a").body == b"new" and len(server.requests) == 1
            os.utime(file, (0, time.time() - 86400 - 60))
            assert front.fetch("kds", "/a").body == b"new" and len(server.requests) == 2
            assert courier.said("status 503")


@pytest.fixture
def quick_folder(tmp_path):
    """For very many files: in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_the_oldest_answer_makes_room(quick_folder):
    for i in range(4096):
        file = quick_folder / name_of(f"http://x/{i}")
        file.write_bytes(b"x")
        os.utime(file, (0, 1000 + (i + 7) % 4096))
    with Server({"/a": ok(b"a"), "/b": ok(b"b")}) as server, \
            Courier([endpoint("kds", server.url, keep_days=1)], cache=quick_folder) as courier:
        front = courier.front()
        for path in ("/a", "/b", "/a"):
            assert front.fetch("kds", path).outcome == DONE
        assert len(list(quick_folder.iterdir())) == 4096
        assert not any((quick_folder / name_of(f"http://x/{i}")).exists() for i in (4089, 4090))


def test_what_is_in_the_place_of_a_kept_answer_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / name_of("http://127.0.0.1:1/link")).symlink_to(secret)
    os.mkfifo(cache / name_of("http://127.0.0.1:1/fifo"))
    (cache / name_of("http://127.0.0.1:1/folder")).mkdir()
    with Courier([endpoint("kds", "http://127.0.0.1:1", keep_days=1)], cache=cache) as courier:
        front = courier.front()
        for path in ("/link", "/fifo", "/folder"):
            assert front.fetch("kds", path).outcome == FAILED
