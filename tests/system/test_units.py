"""Roles as units of the service manager. The shipped units: how exposed systemd-analyze finds them. The real programs:
systemd-socket-activate stands in for the socket units, so that no role is kbsd's child and kbsd can neither wait for one nor
signal it (it is told so, and does not try). What only systemd itself can show, the confinement of the units, is in
docs/adr/0008-roles-as-units.md."""
import os
import pathlib
import re
import signal
import subprocess

import pytest

from kbsguest import Guest
from service import BIN, ROLES, run, wait_until

UNITS = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "systemd"
# What we have and must not lose; what was asked for is 1.1 for the front and 0.2 for the token worker.
EXPOSURE = {"kbsd.service": 1.1, **{f"{role}@.service": 0.1 for role in ROLES}, "kbs-fetch@.service": 1.0}


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(unit):
    shown = run("systemd-analyze", "security", "--offline=yes", "--no-pager", UNITS / unit,
                env={**os.environ, "SYSTEMD_COLORS": "0"})
    exposure = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", shown.stdout)
    print(f"{unit}: exposure {exposure[1]}, of which\n" + "\n".join(re.findall(r"^✗.*$", shown.stdout, re.M)))
    assert float(exposure[1]) <= EXPOSURE[unit]
    assert "ignoring" not in shown.stderr


def test_systemd_understands_every_line(tmp_path):
    """But for the programs, which are not installed here."""
    units = [*EXPOSURE, *(f"{role}.socket" for role in (*ROLES, "kbs-fetch"))]
    for unit in units:
        (tmp_path / unit).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (UNITS / unit).read_text()))
    done = run("systemd-analyze", "verify", "--man=no", *(tmp_path / unit for unit in units), check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_each_role_gets_its_own_files_and_no_other():
    binds = {role: re.findall(r"(?m)^BindPaths=(.*)$", (UNITS / f"{role}@.service").read_text()) for role in (*ROLES, "kbs-fetch")}
    assert binds == {"kbs-front": [], "kbs-judge": ["/var/lib/kbs-hsm/store"], "kbs-token": ["/var/lib/kbs-hsm/token"],
                     "kbs-fetch": ["-/var/lib/kbs-hsm/fetch"],
                     **{role: [] for role in ROLES if role in ("kbs-audit", "kbs-policy")}}


class Units:
    """A service whose roles systemd-socket-activate starts."""

    def __init__(self, service):
        self.service, self.managers = service, []

    def start(self, ready=True):
        folder, log = self.service.folder, open(self.service.folder / "kbsd.log", "ab")
        for role in ROLES:
            self.managers.append(subprocess.Popen(
                ["systemd-socket-activate", "--accept", "--listen", folder / f"{role}.sock", BIN / role],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log))
        log.close()
        wait_until(lambda: self.service.log_text().count("Listening on") == len(ROLES), what="sockets")
        return self.service.start(ready, ["--units", folder])

    def stop(self):
        for manager in self.managers:
            manager.terminate()
            manager.wait(30)


@pytest.fixture
def make_units(make_service):
    made = []

    def make(token, lanes=2):
        made.append(Units(make_service(token, lanes)))
        return made[-1]

    yield make
    for one in made:
        one.service.stop()
        one.stop()


def parent(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"^PPid:\s*(\d+)", f.read(), re.M)[1])


def released(service):
    try:
        return Guest(service.guest_url, service.ca).handshake().get_key("default/disk/vm1").status == 200
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("token", ["softhsm", "nss"])
def test_release_replacement_and_drain(make_units, token):
    units = make_units(token)
    service = units.start()
    service.generate("default/disk/vm1")
    managers = {manager.pid for manager in units.managers}
    assert len(service.roles()) == 9 + 3 * ("kbs-policy" in ROLES)
    assert all(parent(role["pid"]) in managers for role in service.roles())
    assert released(service)
    for role in ROLES:
        old = service.pids(role)
        os.kill(old[0], signal.SIGKILL)
        wait_until(lambda: old[0] not in service.pids(role) and len(service.pids(role)) == len(old)
                   and service.lanes_ready(), what=role + " is back")
        wait_until(lambda: released(service), what="service after " + role)
    pids = [role["pid"] for role in service.roles()]
    assert service.stop() == 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), what="roles gone")
    # Every one left by itself and said so; 1 is a judge's that saw the end of its front first.
    died = re.findall(r"event=role-died unit=\S+ name=\S+ child=(\d+) status=[01] ", service.log_text())
    assert set(map(int, died)) >= set(pids)
    service.ledger()


def test_a_module_that_hangs_is_ended(make_units):
    """Stopped, the token workers answer nothing and run nothing: the leash is all there is."""
    service = make_units("softhsm", lanes=1).start()
    service.generate("default/disk/vm1")
    (hung,) = [r["pid"] for r in service.roles() if r["role"] == "kbs-token" and r["unit"].startswith("lane-guest")]
    os.kill(hung, signal.SIGSTOP)
    assert not released(service)  # 503 at the deadline of the operation
    wait_until(lambda: hung not in service.pids("kbs-token") and released(service), what="the lane is replaced")
    assert not os.path.exists(f"/proc/{hung}")
    assert service.stop() == 0


@pytest.mark.parametrize("token", ["softhsm", "nss"])
def test_a_wrong_pin_is_tried_once(make_units, token):
    units = make_units(token, lanes=3)
    (units.service.folder / "pin").write_text("not-the-right-pin\n")
    service = units.start(ready=False)
    wait_until(lambda: service.log_text().count("event=unit-failed") == 4, what="every lane is given up")
    assert service.log_text().count("event=login-granted") == 1
    assert "event=pin-error" in service.log_text()
    assert service.process.poll() is None
    assert service.stop() == 0


def test_the_end_of_kbsd_ends_the_roles(make_units):
    service = make_units("softhsm").start()
    pids = [role["pid"] for role in service.roles()]
    service.process.kill()
    service.process.wait(10)
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), what="roles gone")
