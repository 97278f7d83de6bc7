"""What a role has and has not: privileges, descriptors, core files, libraries; and who may be told to do what."""
import os
import re

import pytest

from kbsguest import Http
from service import BIN, run, wait_until

MAY_MAP = {"kbs-token": r"libsofthsm2|libsoftokn3"}


def status(pid, name):
    with open(f"/proc/{pid}/status") as f:
        return re.search(rf"^{name}:\s*(\S+)", f.read(), re.M).group(1)


def test_every_role_is_confined_from_the_start(service):
    for role in service.roles():
        pid = role["pid"]
        assert status(pid, "NoNewPrivs") == "1", role
        with open(f"/proc/{pid}/limits") as f:
            assert re.search(r"Max core file size\s+0\s+0", f.read()), role
        if os.geteuid() == 0:
            # not dumpable: the files of its /proc folder belong to root whoever runs it; see proc(5)
            assert os.stat(f"/proc/{pid}/mem").st_uid == 0
        maps = open(f"/proc/{pid}/maps").read() if os.geteuid() == 0 else ""
        loaded = set(re.findall(r"(?:libsofthsm2|libsoftokn3|libp11-kit)[^\s]*", maps))
        if role["role"] == "kbs-token":
            assert loaded
        else:
            assert not loaded, role


def test_descriptors_are_the_channel_table(soft):
    if os.geteuid() != 0:
        pytest.skip("reading another process's descriptors needs root: the roles are not dumpable")
    for role in soft.roles():
        kinds = [os.readlink(f"/proc/{role['pid']}/fd/{fd}") for fd in os.listdir(f"/proc/{role['pid']}/fd")]
        files = sorted(k for k in kinds if k.startswith("/") and not k.startswith("/dev/null"))
        own = {"kbs-judge": r".*/store/store\.db(-wal|-shm)?|.*kbsd\.log",
               "kbs-audit": r".*/audit\.log|.*kbsd\.log",
               "kbs-token": r".*/token/.*|.*kbsd\.log|/dev/urandom",
               "kbs-policy": r".*kbsd\.log",
               "kbs-front": r".*kbsd\.log|/dev/null"}[role["role"]]
        for name in files:
            assert re.fullmatch(own, name), f"{role['role']} has {name} open"
        assert not [n for n in files if n.endswith("/pin") or n.endswith("key.pem")], role


def test_secrets_are_in_no_log_ledger_or_store(service):
    key = os.urandom(32)
    service.import_key("default/disk/vm1", key)
    service.guest("get-key", "default/disk/vm1")
    pin = (service.folder / "pin").read_text().strip()
    service.stop()
    for name in ("kbsd.log", "audit.log", "store/store.db", "store/store.db-wal", "announce.json", "kbs.toml"):
        path = service.folder / name
        data = path.read_bytes() if path.exists() else b""
        for form in (key, key.hex().encode(), pin.encode()):
            assert form not in data, name
    for name in ("pin", "tls/key.pem", "admin/admin.key.pem"):
        assert (service.folder / name).stat().st_mode & 0o077 == 0, name


def test_the_production_profile_refuses_what_proves_nothing(make_service):
    soft = make_service("softhsm")
    soft.edit_config(r'^mode = "demo"', 'mode = "production"')
    done = run(BIN / "kbsd", "-c", soft.folder / "kbs.toml", "--check-config", check=False)
    assert done.returncode == 2 and "allow_sample" in done.stderr


def test_admin_requests_must_be_signed(soft):
    http = Http(soft.admin_url, soft.ca)
    for method, target in (("GET", "/kbs/v0/admin/keys"), ("POST", "/kbs/v0/admin/keys"),
                           ("GET", "/kbs/v0/admin/import-key"), ("POST", "/kbs/v0/admin/keys/a/b/c/import"),
                           ("GET", "/kbs/v0/admin/keys/a/b/c")):
        for headers in ({}, {"Kbs-Signature": "x"}, {"Authorization": "Bearer x"}, {"Kbs-Signature": "a.b.c"}):
            answer = http.request(method, target, b"{}" if method == "POST" else None,
                                  {"Content-Type": "application/json", **headers})
            assert answer.status == 401, (method, target, headers, answer.body)
    assert http.request("POST", "/kbs/v0/auth", b"{}").status == 404  # no guest route on the admin listener
    assert soft.records("admin-denied")


def test_health_and_readiness(soft):
    http = Http(soft.guest_url, soft.ca)
    assert http.request("GET", "/healthz").status == 200
    assert http.request("GET", "/readyz").status == 200
    for pid in soft.pids("kbs-judge"):
        os.kill(pid, 19)  # SIGSTOP: alive, so still attached
    assert http.request("GET", "/healthz").status == 200
    for pid in soft.pids("kbs-judge"):
        os.kill(pid, 18)
    wait_until(lambda: http.request("GET", "/readyz").status == 200, what="ready")


def test_kbs_admin_lists_and_conflicts(soft):
    soft.generate("default/disk/vm1")
    assert soft.admin("key", "generate", "default/disk/vm1", check=False).returncode == 6
    assert soft.admin("key", "show", "default/disk/none", check=False).returncode == 5
    assert [k["path"] for k in soft.admin_json("key", "list")["keys"]] == ["default/disk/vm1"]
    assert soft.admin("key", "generate", "no-path", check=False).returncode == 2
