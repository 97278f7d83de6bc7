"""Lanes are recycled before a leak of their token matters, and no request notices. SoftHSM keeps memory of every session
object; kbs-token-few-N is worn after N of them instead of KBS_LIMIT_TOKEN_OBJECTS. While one lane of two is away, the other
may make as many again: N has to be more than what the load makes in that time."""
import os
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mock"))
import load  # noqa: E402
from service import BIN, SANITIZED, wait_until  # noqa: E402

TESTS = pathlib.Path(os.environ.get("KBS_BUILD_DIR", BIN.parent)) / "tests" / "bin"
PATH = "default/disk/vm1"
TIMES = 3 if SANITIZED else 6  # a lane lasts three times as long there
ADMIN_TIMES = 1 if SANITIZED else 2
GUESTS = 3


@pytest.fixture
def short_lived(make_service):
    """Makes services whose token workers do not last."""
    def make(lanes, objects):
        service = make_service("softhsm", lanes)
        libexec = service.folder / "libexec"
        libexec.mkdir()
        for role in ("kbs-front", "kbs-judge", "kbs-audit"):
            (libexec / role).symlink_to(BIN / role)
        (libexec / "kbs-token").symlink_to(TESTS / f"kbs-token-few-{objects}")
        return service.start(options=["--libexec", libexec])
    return make


def recycled(service, side):
    return len(re.findall(rf"event=unit-restart unit=lane-{side}-\d+ failures=0 in_ms=0", service.log_text()))


def check_untroubled(service):
    """The log of nothing but recycling: no failure, no worker that had to end by itself, one lane of a front at a time."""
    log = service.log_text()
    assert not re.findall(r"^.*event=(?:worn-out|lane-closed|role-overdue|role-broken|unit-failed).*$", log, re.M)
    assert not re.findall(r"^.*event=unit-restart .*failures=[1-9].*$", log, re.M)
    assert not re.findall(r"^.*event=role-died .*status=(?!0 ).*$", log, re.M)
    for side in ("guest", "admin"):
        away = None
        for event, unit in re.findall(rf"event=(lane-recycled|lane-attached) unit=(lane-{side}-\d+)", log):
            assert event == "lane-attached" or away is None, f"{unit} taken while {away} was away"
            away = unit if event == "lane-recycled" else None if unit == away else away


@pytest.mark.parametrize("lanes", [1, 2])
def test_guests_do_not_notice(short_lived, lanes):
    service = short_lived(lanes, 3000)
    made = service.generate(PATH)
    loads = load.start(service, made, PATH, GUESTS)
    wait_until(lambda: recycled(service, "guest") >= TIMES, 240, f"{TIMES} lanes recycled")
    for one in loads:
        one.end()
    answers = load.answers(loads)
    failed = [a for a in answers if a[2] != 200]
    print(f"{lanes} lanes: {len(answers)} releases, {recycled(service, 'guest')} times recycled, {len(failed)} failed, "
          f"longest answer {max(a[1] for a in answers):.2f} s")
    assert not failed
    assert not any(one.wrong or one.unanswered for one in loads)
    check_untroubled(service)
    service.ledger()  # asserts that the chain holds


def test_administrators_do_not_notice(short_lived):
    service = short_lived(1, 300)
    keys = 0
    while recycled(service, "admin") < ADMIN_TIMES:
        service.generate(f"default/disk/vm{keys}")  # asserts that it succeeds
        keys += 1
    print(f"{keys} keys made")
    assert len(service.admin_json("key", "list")["keys"]) == keys
    check_untroubled(service)
    service.ledger()
