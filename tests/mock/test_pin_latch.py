"""A wrong PIN is tried once for each change that the operator makes: not once a start, not once a kbsd. The mock counts."""
import os
import re

from service import Service, wait_until

PATH = "default/disk/vm1"


def wrong_pin(service):
    (service.folder / "pin").write_text("not-the-right-pin\n")


def refused(service, times=1):
    """kbsd has said that often that the PIN is not to be tried any more, and stays."""
    wait_until(lambda: len(re.findall(r"event=pin-error", service.log_text())) == times, what="pin-error in the log")
    assert service.process.poll() is None


class SecondKbsd(Service):
    """Another kbsd on the same PIN file, with a ledger, a store and sockets of its own."""

    def __init__(self, first):  # not super(): the token is there
        self.__dict__.update(first.__dict__)
        self.process = None
        self.configuration = "second.toml"
        self.announce = first.folder / "second.json"
        (first.folder / "second").mkdir()
        text = (first.folder / "kbs.toml").read_text()
        text = text.replace('"store/store.db"', '"second/store.db"').replace('"audit.log"', '"second/audit.log"')
        (first.folder / "second" / "store").mkdir()
        (first.folder / self.configuration).write_text(text)
        self.log_name = "second.log"


def test_a_restart_does_not_try_again(make_mock):
    service, token = make_mock(lanes=3)
    right = (service.folder / "pin").read_text()
    service.start()
    service.generate(PATH)
    service.stop()
    wrong_pin(service)
    for start in range(1, 4):
        service.start(ready=False)
        refused(service, times=start)
        service.stop()
        assert token.wrong_pins() == 1, f"start {start}"
    os.utime(service.folder / "pin")  # the operator has looked at it
    service.start(ready=False)
    refused(service, times=4)
    service.stop()
    assert token.wrong_pins() == 2
    (service.folder / "pin").write_text(right)
    service.start()
    assert token.wrong_pins() == 2
    assert service.admin_json("key", "show", PATH)["kcv"]


def test_two_kbsd_on_one_pin_file_try_once(make_mock):
    first, token = make_mock(lanes=3)
    second = SecondKbsd(first)
    wrong_pin(first)
    try:
        first.start(ready=False)
        second.start(ready=False)
        refused(first)
        refused(second)
        assert token.wrong_pins() == 1
    finally:
        second.stop()


def test_a_lane_that_is_replaced_does_not_try_a_new_wrong_pin_twice(make_mock):
    service, token = make_mock(lanes=2)
    service.start()
    service.generate(PATH)
    wrong_pin(service)
    for pid in [r["pid"] for r in service.roles() if r["role"] == "kbs-token"]:
        os.kill(pid, 9)
    refused(service)
    assert token.wrong_pins() == 1
