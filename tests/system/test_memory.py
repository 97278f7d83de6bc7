"""Memory proof: after 1,000 releases, rewraps and first boots, no role but kbs-token holds a released key, the PIN or a wrapping key in any
mapping, in any of the spellings a careless copy would have. The scan itself is tested: it must find a planted key."""
import base64
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys

import pytest

from kbsguest import Guest
from machine import KEEPS, Machine, make
from service import BIN, ROLES, wait_until

RELEASES = 1000
NEKS = 50  # of each road, each the key of a guest of its own
BUILD = pathlib.Path(os.environ.get("KBS_BUILD_DIR", BIN.parent))
MEMSCAN = BUILD / "tests" / "bin" / "memscan"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the roles are not dumpable: reading their memory needs root")
needs_plain = pytest.mark.skipif(not re.search("^KBS_SANITIZE:[^=]*=$", (BUILD / "CMakeCache.txt").read_text(), re.M),
                                 reason="terabytes of sanitizer mappings: the proof is about the product as it is built")
pytestmark = [needs_root, needs_plain]


def spellings(secret):
    """Raw, reversed, hex in both cases, base64 in both alphabets at all three alignments."""
    found = {secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode()}
    for data in (secret, secret[::-1]):
        for shift in range(3):
            text = base64.b64encode(bytes(shift) + data)
            start = (shift * 8 + 5) // 6
            end = (shift + len(data)) * 8 // 6
            found.add(text[start:end])
            found.add(text[start:end].replace(b"+", b"-").replace(b"/", b"_"))
    return found


def scan(pid, secrets):
    """Names of the secrets found in any readable mapping of a process, and the bytes looked at."""
    lines = [f"{name} {spelling.hex()}" for name, secret in secrets.items() for spelling in spellings(secret)]
    done = subprocess.run([MEMSCAN, str(pid)], input="\n".join(lines) + "\n", capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    words = [line.split() for line in done.stdout.splitlines()]
    return {name for kind, name in words if kind == "found"}, next(int(n) for kind, n in words if kind == "scanned")


def neks(service):
    """NEKs that were made, given again and rewrapped, and what they were wrapped by on the way to the guest."""
    path, found = "default/nek/vm", {}
    make(service, path, "P-256", {**KEEPS, "provision": {**KEEPS["provision"], "quota": NEKS}})
    for i in range(NEKS):
        guest = Machine(service, f"svn {i}")
        answer = guest.provision(path)
        blob = answer.json()["nek"]
        keks, keys = zip(guest.provisioned(answer, path + "/v1"), guest.provisioned(guest.provision(path), path + "/v1"),
                         guest.rewrapped(blob, path + "/v1"))
        assert len(set(keys)) == 1
        found[f"nek-{i}"] = keys[0]
        found.update({f"nek-{i}-wrapping-key-{j}": kek for j, kek in enumerate(keks)})
    return found


def test_no_role_but_the_token_worker_holds_a_secret(service):
    key = os.urandom(32)
    service.import_key("default/disk/vm1", key)
    pin = (service.folder / "pin").read_bytes().strip()
    secrets = {"released-key": key, "PIN": pin}
    guest = Guest(service.guest_url, service.ca).handshake()
    for i in range(RELEASES):
        if i % 2:
            answer = guest.get_key("default/disk/vm1", "application/cose")
            kek, opened = guest.open_cose(answer.body, "default/disk/vm1/v1")
        else:
            answer = guest.get_key("default/disk/vm1")
            kek, opened = guest.open_jose(answer.json(), "default/disk/vm1/v1")
        assert opened == key
        secrets[f"wrapping-key-{i}"] = kek
    secrets.update(neks(service))
    roles = [(r["role"], r["pid"]) for r in service.roles()] + [("kbsd", service.state()["pid"])]
    assert {name for name, _ in roles} == {"kbsd", *ROLES}
    for role, pid in roles:
        hits, scanned = scan(pid, secrets)
        print(f"{service.token} {role} pid {pid}: {scanned >> 10} KiB scanned, found {sorted(hits)[:5]}")
        assert scanned > 1 << 20
        if role != "kbs-token":
            assert not hits, f"{role} holds {sorted(hits)[:5]}"


PLANT = """
import sys
held = bytes.fromhex(sys.stdin.readline())
forms = [bytearray(held), bytearray(held[::-1]), bytearray(held.hex().encode()),
         bytearray(__import__("base64").b64encode(b"x" + held))]
kept = forms[int(sys.argv[1])]
del forms, held
print("ready", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("form", range(4))
def test_the_scan_finds_a_planted_key(form):
    key = os.urandom(32)
    with subprocess.Popen([sys.executable, "-c", PLANT, str(form)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as child:
        child.stdin.write(key.hex().encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"ready\n"
        hits, _ = scan(child.pid, {"planted": key, **{str(i): os.urandom(32) for i in range(1000)}})
        absent, _ = scan(child.pid, {"absent": os.urandom(32)})
        child.stdin.write(b"\n")
        child.stdin.flush()
    assert hits == {"planted"} and not absent


def test_the_scan_finds_what_a_role_has_in_hand(soft):
    """The same scan on a real role: a front holds a request that it is still being told, and forgets it once it is over."""
    cookie = os.urandom(16).hex()
    wanted = {"cookie": cookie.encode()}

    def held():
        return any(scan(pid, wanted)[0] for pid in soft.pids("kbs-front"))

    address = soft.guest_url.split("//")[1].split(":")
    context = ssl.create_default_context(cafile=soft.ca)
    with context.wrap_socket(socket.create_connection((address[0], int(address[1])), 30), server_hostname=address[0]) as client:
        client.sendall(f"POST /kbs/v0/auth HTTP/1.1\r\nHost: kbs\r\nCookie: kbs-session-id={cookie}\r\n"
                       "Content-Length: 2\r\n\r\n{".encode())
        wait_until(held, 8, "the front has it")
        client.sendall(b"}")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert not held()
