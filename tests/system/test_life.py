"""A key's whole life, with the real token: both classes, another policy, another wrapping key, the end; and what the ledger says of it."""
import json
import os
import signal
import sqlite3
import subprocess
import time

import pytest

from kbsguest import Guest, kcv, random_nonce
from service import BIN, run, wait_until

KEYS = 12


def released(service, path, version, guest=None):
    """(status, check value of the key that came out, or the refusal's detail)"""
    own = guest or Guest(service.guest_url, service.ca).handshake()
    nonce = random_nonce()
    answer = own.get_key(path, nonce=nonce, query=f"?version={version}")
    value = (kcv(own.open_jose(answer.json(), f"{path}/v{version}", nonce)[1]) if answer.status == 200
             else answer.json()["detail"])
    if guest is None:
        own.close()
    return answer.status, value


def expect_sound(service):
    """The ledger of an honest service has nothing to find, with all its orders, deeds and ends."""
    done = run(BIN / "kbs-admin", "--profile", service.folder / "admin" / "profile.json", "--json", "audit", "verify",
               service.ledger_path, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["findings"] == [], said["findings"]


def wrapping(service):
    return service.admin_json("wrapping-key", "show")


def test_states_and_policy(service):
    made = service.generate("default/disk/vm1")
    assert released(service, "default/disk/vm1", 1) == (200, made["kcv"])
    service.admin("key", "disable", "default/disk/vm1")
    status, why = released(service, "default/disk/vm1", 1)
    assert status == 403 and "disabled" in why
    service.admin("key", "enable", "default/disk/vm1")
    assert released(service, "default/disk/vm1", 1) == (200, made["kcv"])

    second = service.admin_json("key", "rotate", "default/disk/vm1")
    assert second["version"] == 2 and second["kcv"] != made["kcv"]
    assert released(service, "default/disk/vm1", 2) == (200, second["kcv"])
    assert released(service, "default/disk/vm1", 1) == (200, made["kcv"])

    deny = {"version": "1.0.0", "anyOf": [{"allOf": [{"claim": "kbs.key.version", "equals": 1}]}]}
    service.admin("key", "policy", "default/disk/vm1", "--policy", service.policy_file(deny))
    assert released(service, "default/disk/vm1", 2)[0] == 403
    service.admin("key", "policy", "default/disk/vm1", "--policy", service.policy_file())
    assert released(service, "default/disk/vm1", 2) == (200, second["kcv"])

    service.admin("key", "destroy", "default/disk/vm1", "--version", "1")
    assert "pending" in released(service, "default/disk/vm1", 1)[1]
    service.admin("key", "undo", "default/disk/vm1", "--version", "1")
    gone = service.admin_json("key", "destroy", "default/disk/vm1", "--version", "1", "--after", "0")
    assert gone["state"] == "destroyed" and gone["gone"] == "now"
    assert released(service, "default/disk/vm1", 1)[0] == 404
    assert released(service, "default/disk/vm1", 2) == (200, second["kcv"])
    service.stop()
    expect_sound(service)


def test_destroyed_when_its_time_has_come(service):
    service.generate("default/disk/vm1")
    service.admin("key", "destroy", "default/disk/vm1", "--after", "2")
    wait_until(lambda: service.admin_json("key", "list")["keys"][0]["state"] == "destroyed", 20, "destruction")
    assert released(service, "default/disk/vm1", 1)[0] == 404
    deed = [d for d in service.records("deed") if d["op"] == "destroy"]
    assert len(deed) == 1 and deed[0]["outcome"] == "done"
    service.stop()
    expect_sound(service)


def test_wrapped_keys_move_to_another_wrapping_key(service):
    if wrapping(service)["version"] == 0:
        service.admin("wrapping-key", "rotate")
    first = wrapping(service)["version"]
    made = {f"default/wrapped/k{i}": service.generate(f"default/wrapped/k{i}", "--class", "wrapped")["kcv"]
            for i in range(KEYS)}
    guest = Guest(service.guest_url, service.ca).handshake()
    for path, check in made.items():
        assert released(service, path, 1, guest) == (200, check)
    service.admin("wrapping-key", "rotate")
    assert wrapping(service) == {"version": first + 1, "keys": {str(first): KEYS}}
    assert released(service, "default/wrapped/k0", 1, guest) == (200, made["default/wrapped/k0"])
    start = time.monotonic()
    done = service.admin_json("wrapping-key", "rewrap", "--limit", "5")
    print(f"{KEYS} keys rewrapped on {service.token} in {time.monotonic() - start:.2f} s")
    assert done["rewrapped"] == KEYS and done["left"] == 0
    assert wrapping(service)["keys"] == {str(first + 1): KEYS}
    service.admin("wrapping-key", "destroy", "--version", str(first))
    for path, check in made.items():
        assert released(service, path, 1, guest) == (200, check)
    gone = service.admin_json("key", "destroy", "default/wrapped/k0", "--after", "0")
    assert gone["gone"] == f"with wrapping key {first + 1}"
    assert released(service, "default/wrapped/k0", 1, guest)[0] == 404
    guest.close()
    service.stop()
    store = sqlite3.connect(service.store_path)
    assert store.execute("SELECT blob FROM key WHERE path = 'default/wrapped/k0'").fetchone() == (None,)
    store.close()
    expect_sound(service)


def test_killed_in_the_middle_of_a_rewrap(soft):
    """A role of the admin lane dies somewhere in the batches; all keys are there, and the same command goes on."""
    if wrapping(soft)["version"] == 0:
        soft.admin("wrapping-key", "rotate")
    made = {f"default/wrapped/k{i}": soft.generate(f"default/wrapped/k{i}", "--class", "wrapped")["kcv"]
            for i in range(KEYS)}
    for i, role in enumerate(("kbs-judge", "kbs-token", "kbs-audit", "kbs-judge", "kbs-token", "kbs-audit")):
        soft.admin("wrapping-key", "rotate")
        moving = subprocess.Popen([BIN / "kbs-admin", "--profile", soft.folder / "admin" / "profile.json", "--url",
                                   soft.admin_url, "wrapping-key", "rewrap", "--limit", "3"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            moving.wait(0.04 + 0.02 * i)  # somewhere in the batches
        except subprocess.TimeoutExpired:
            pass
        os.kill(soft.pids(role)[-1], signal.SIGKILL)
        moving.wait(60)
        wait_until(lambda: soft.admin("wrapping-key", "show", check=False).returncode == 0, 60, "administration")
    wait_until(lambda: soft.admin("wrapping-key", "rewrap", check=False).returncode == 0, 60, "the rest of the rewrap")
    assert list(wrapping(soft)["keys"].values()) == [KEYS]
    guest = Guest(soft.guest_url, soft.ca).handshake()
    for path, check in made.items():
        assert released(soft, path, 1, guest) == (200, check)
    guest.close()
    soft.stop()
    expect_sound(soft)


@pytest.mark.parametrize("alg", ["RSA-OAEP-256", "RSA-OAEP"])
def test_rsa_guests(service, alg):
    """An RSA TEE key gets the key by the token's OAEP, or is told which rung is missing; never something else."""
    made = service.generate("default/disk/vm1", "--floor", "worker")
    done = service.guest("get-key", "default/disk/vm1", "--tee-alg", alg, check=False)
    if (service.token, alg) == ("softhsm", "RSA-OAEP-256"):  # it has OAEP with SHA-1 only
        assert done.returncode != 0 and "RSA-OAEP-256" in done.stderr
        return
    assert made["kcv"] in done.stdout, done.stderr
