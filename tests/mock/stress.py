#!/usr/bin/env python3
"""Kills lanes under load and counts what it cost.

    stress.py kills N [--token mock|nss|softhsm ...]

N SIGKILLs per token, each to a judge or a token worker of some guest lane, at a random instant; the next as soon as one
lane at least serves again. On NSS and the mock the victim may be anywhere in its start; on SoftHSM, whose token does not
survive it, a worker is spared until it has logged in. All the time guests release a key. Wanted: no wrong byte, no guest
that hangs, one answer to every request, 200 or 503 with Retry-After, and not more requests lost in a lane than kills. 503
because no lane came back in 3 s is a matter of the machine, and counted apart. Prints one line per token; exit status 1 if anything else happened.
"""
import argparse
import os
import pathlib
import random
import select
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))
import load  # noqa: E402
from service import BIN, Service, wait_until  # noqa: E402

PATH = "default/disk/vm1"
LANES = 3
GUESTS = 4


def lane_processes(service, spare_starting):
    """Pids of judges and token workers of guest lanes: those in service or, unless they are to be spared, any."""
    ready = [r["pid"] for r in service.roles()
             if r["unit"].startswith("lane-guest") and r["role"] in ("kbs-judge", "kbs-token")]
    if spare_starting:
        return ready
    others = {r["pid"] for r in service.roles()} - set(ready)
    return [pid for pid in children(service.process.pid) if pid not in others]


def children(parent):
    found = []
    for entry in os.listdir("/proc"):
        try:
            stat = pathlib.Path("/proc", entry, "stat").read_text()
        except (OSError, ValueError):
            continue
        name, fields = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
        if int(fields[1]) == parent and name in ("kbs-judge", "kbs-token") and fields[0] != "Z":
            found.append(int(entry))
    return found


def wait_for_service(service, loads):
    """Some guest has got something since now."""
    now = time.monotonic()
    wait_until(lambda: any(one.answers and one.answers[-1][0] > now and one.answers[-1][2] == 200 for one in loads),
               120, "a release after a kill")


def kill_some(service, loads, n, spare_starting):
    rng = random.Random(n)
    kills = 0
    while kills < n:
        victims = lane_processes(service, spare_starting)
        if not victims:
            select.poll().poll(5)
            continue
        try:
            os.kill(rng.choice(victims), signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            continue
        select.poll().poll(rng.randrange(0, 40))  # anywhere in a start
        if kills % LANES == 0:
            wait_for_service(service, loads)
    wait_for_service(service, loads)


def stress(token, n, folder):
    service = Service(pathlib.Path(folder) / token, token, LANES)
    service.kbsd = [BIN.parent / "tests" / "bin" / "kbsd-stress", "--libexec", BIN]
    try:
        service.start()
        made = service.generate(PATH)
        admin = [r["pid"] for r in service.roles() if r["unit"].startswith("lane-admin")]
        loads = load.start(service, made, PATH, GUESTS)
        wait_for_service(service, loads)
        begun = time.monotonic()
        kill_some(service, loads, n, token == "softhsm")
        seconds = time.monotonic() - begun
        hung = 0
        for one in loads:
            one.ending.set()
            one.join(60)
            hung += one.is_alive()
        service.ledger()  # asserts that the chain holds
        stayed = admin == [r["pid"] for r in service.roles() if r["unit"].startswith("lane-admin")]
        return report(token, n, seconds, loads, hung, stayed and service.process.poll() is None)
    finally:
        if service.stop() != 0:
            print(service.log_text()[-5000:])


def report(token, n, seconds, loads, hung, alive):
    answers = load.answers(loads)
    refused = [a for a in answers if a[2] != 200 and not a[4]]
    absent = [a for a in answers if a[4]]
    strange = [a for a in refused + absent if a[2] != 503 or not a[3]]
    wrong = [w for one in loads for w in one.wrong]
    unanswered = [u for one in loads for u in one.unanswered]
    print(f"{token}: {n} kills in {seconds:.0f} s, {len(answers)} answers, "
          f"{len(answers) - len(refused) - len(absent)} releases, {len(refused)} lost in a lane and {len(absent)} without any (503), "
          f"{len(strange)} other, {len(wrong)} wrong, {len(unanswered)} unanswered, "
          f"{hung} guests hung, longest answer {max(a[1] for a in answers):.2f} s", flush=True)
    for text in [*wrong[:3], *unanswered[:3], *strange[:3]]:
        print("   ", text)
    return not (wrong or unanswered or strange or hung) and alive and len(refused) <= n


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kills"])
    parser.add_argument("n", type=int)
    parser.add_argument("--token", action="append", choices=["mock", "nss", "softhsm"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kbs-stress-") as folder:
        results = [stress(token, arguments.n, folder) for token in arguments.token or ["mock", "nss", "softhsm"]]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
