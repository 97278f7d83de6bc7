"""Crashes, wrong PINs, drains: what the service does when a part of it ends."""
import os
import re
import select
import signal
import threading

import pytest

from kbsguest import Guest, Http
from service import ROLES, wait_until


class Load(threading.Thread):
    """Releases in a loop on a session of its own until told to stop; keeps every status and any wrong key."""

    def __init__(self, service, path, kid, kcv_text):
        super().__init__(daemon=True)
        self.service, self.path, self.kid, self.kcv = service, path, kid, kcv_text
        self.guest = Guest(service.guest_url, service.ca).handshake()
        self.statuses, self.wrong, self.stop = [], 0, threading.Event()

    def run(self):
        from kbsguest import kcv
        while not self.stop.is_set():
            answer = self.guest.get_key(self.path)
            self.statuses.append((answer.status, answer.headers.get("retry-after")))
            if answer.status == 200 and kcv(self.guest.open_jose(answer.json(), self.kid)[1]) != self.kcv:
                self.wrong += 1


def guest_lane_pids(service, role):
    return [r["pid"] for r in service.roles() if r["role"] == role and r["unit"].startswith("lane-guest")]


@pytest.mark.parametrize("lanes", [1, 2])
def test_kill_9_of_a_lane_costs_at_most_its_own_request(make_service, token, lanes):
    service = make_service(token, lanes).start()
    made = service.generate("default/disk/vm1")
    loads = [Load(service, "default/disk/vm1", "default/disk/vm1/v1", made["kcv"]) for _ in range(3)]
    for load in loads:
        load.start()
    kills = 0
    for role in ("kbs-judge", "kbs-token", "kbs-judge"):
        victims = guest_lane_pids(service, role)
        before = sum(len(load.statuses) for load in loads)
        wait_until(lambda: sum(len(load.statuses) for load in loads) > before + 10, what="load running")
        os.kill(victims[0], signal.SIGKILL)
        kills += 1
        wait_until(lambda: victims[0] not in service.pids(role) and service.lanes_ready(), what="the lane is back")
    before = sum(len(load.statuses) for load in loads)
    wait_until(lambda: sum(len(load.statuses) for load in loads) > before + 30, what="load running")
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join(60)
    statuses = [status for load in loads for status in load.statuses]
    failed = [s for s in statuses if s[0] != 200]
    print(f"{service.token}: {len(statuses)} releases, {kills} kills, failed: {failed}")
    assert len(failed) <= kills
    assert all(status == 503 and retry for status, retry in failed)
    assert not any(load.wrong for load in loads)
    assert service.process.poll() is None
    service.ledger()  # the chain holds


def test_every_role_is_replaced(soft):
    soft.generate("default/disk/vm1")
    for role in sorted(ROLES):
        old = soft.pids(role)
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: old[0] not in soft.pids(role) and len(soft.pids(role)) == len(old) and soft.lanes_ready(),
                   what=role + " is back")

        def serves():
            try:
                guest = Guest(soft.guest_url, soft.ca).handshake()
                return guest.get_key("default/disk/vm1").status == 200
            except (OSError, AssertionError):
                return False
        wait_until(serves, what="service after " + role)
    soft.ledger()


def test_a_wrong_pin_is_tried_once(make_service, token):
    service = make_service(token, lanes=3)
    (service.folder / "pin").write_text("not-the-right-pin\n")
    service.start(ready=False)
    wait_until(lambda: re.search(r"pin", service.log_text(), re.I) and "level=error" in service.log_text(),
               what="a clear message")
    wait_until(lambda: service.announce.exists() or "announce" not in service.log_text(), what="announce")
    text = service.log_text()
    assert len(re.findall(r"event=login-granted", text)) == 1, text
    assert service.process.poll() is None  # and kbsd stays, to say so
    assert re.search(r"PIN", text)


def test_sigterm_drains(soft):
    soft.generate("default/disk/vm1")
    load = Load(soft, "default/disk/vm1", "default/disk/vm1/v1", soft.admin_json("key", "show", "default/disk/vm1")["kcv"])
    url = soft.guest_url
    answers = []

    def run():
        try:
            while True:
                answers.append(load.guest.get_key("default/disk/vm1").status)
        except OSError:
            answers.append("closed")
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(lambda: len(answers) > 10, what="load running")
    pids = [r["pid"] for r in soft.roles()]
    assert soft.stop() == 0
    thread.join(30)
    assert set(answers[:-1]) == {200} and answers[-1] == "closed"
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")
    try:
        Http(url, soft.ca).request("GET", "/healthz")
        raise AssertionError("still listening")
    except OSError:
        pass


def test_the_store_and_ledger_survive_a_restart(service):
    shown = service.generate("default/disk/vm1")
    service.stop()
    service.start()
    again = service.admin_json("key", "show", "default/disk/vm1")
    assert again["verified"] and {name: again[name] for name in shown} == shown
    guest = Guest(service.guest_url, service.ca).handshake()
    assert guest.get_key("default/disk/vm1").status == 200
    assert len(service.records("open")) == 2


def test_kbsd_killed_takes_its_roles_along(soft):
    pids = [r["pid"] for r in soft.roles()]
    os.kill(soft.process.pid, signal.SIGKILL)
    soft.process.wait(10)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), what="roles gone")


def test_a_lane_that_is_starting_holds_up_no_drain(make_service):
    """Wherever its worker is: not asked yet, waiting for the login, logging in. Its judge would wait for it."""
    service = make_service("nss", lanes=3)
    for pause_ms in (0, 90, 110, 130, 160, 250):
        service.start()
        for pid in [r["pid"] for r in service.roles() if r["role"] == "kbs-token" and r["unit"].startswith("lane-guest")][:2]:
            os.kill(pid, signal.SIGKILL)
        select.poll().poll(pause_ms)
        assert service.stop() == 0
    assert "event=role-overdue" not in service.log_text()
