"""What a worker of a token that leaks costs: resident memory of kbs-token beside the number of releases it has made.

    wear.py [--token softhsm|nss|mock] [--step N] [--steps N]

One lane, one guest's load (perf_load). Run by hand, with KBS_BIN_DIR set to the release preset's bin; the figures are in
docs/tokens/softhsm.md, and KBS_LIMIT_TOKEN_OBJECTS follows from them. A line per step; ends early when the worker has
been replaced.
"""
import argparse
import contextlib
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bench  # noqa: E402

WINDOW_MS = 500


def resident_kib(pid):
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M).group(1))


def worker(service):
    return next(r["pid"] for r in service.roles() if r["role"] == "kbs-token" and r["unit"].startswith("lane-guest"))


def measure(token, step, steps):
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kbs-wear-"))
        run = bench.Run(stack, pathlib.Path(folder) / token, token, 1)
        pid = worker(run.service)
        first = previous = resident_kib(pid)
        done = 0
        print(f"{token}: {first} KiB resident after a few hundred releases")
        for n in range(1, steps + 1):
            begun = done
            while done < begun + step:
                run.load.ask("open")
                done += int(run.load.ask(f"run {WINDOW_MS}")[0])
            if worker(run.service) != pid:
                print(f"replaced within {done} releases")
                return
            now = resident_kib(pid)
            print(f"{done} releases: {now} KiB, {now - first:+} in all, "
                  f"{(now - previous) * 1024 / (done - begun):.0f} bytes for each of the last {done - begun}", flush=True)
            previous = now


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--token", default="softhsm")
    parser.add_argument("--step", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    measure(arguments.token, arguments.step, arguments.steps)


if __name__ == "__main__":
    main()
