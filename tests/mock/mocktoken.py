"""The token of a service that runs on the mock: its scripts, its counters (tests/mock/calls.h), its configuration."""
import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))

ORDERS = 16


class MockToken:
    def __init__(self, service):
        self.configuration = service.folder / "token" / "softhsm2.conf"
        self.folder = service.folder / "token" / "tokens"
        self.number = 0

    def configure(self, line):
        """In force for workers that start from now on."""
        with open(self.configuration, "a", encoding="ascii") as file:
            file.write(line + "\n")

    def script(self, *lines):
        """In force at the next call of every worker."""
        self.number += 1
        fresh = self.folder / "script.new"
        fresh.write_text("".join(line + "\n" for line in lines) + f"# {self.number}\n")
        os.rename(fresh, self.folder / "script")

    def _counters(self):
        data = (self.folder / "calls").read_bytes()
        records = struct.iter_unpack("=32sQQQQ", data[8 * (2 + ORDERS):])
        return {name.rstrip(b"\0").decode(): (calls, faults) for name, calls, faults, _, _ in records}

    def calls(self, name):
        return self._counters()[name][0]

    def faults(self, name):
        return self._counters()[name][1]

    def all_calls(self):
        return sum(calls for calls, _ in self._counters().values())

    def wrong_pins(self):
        return struct.unpack_from("=Q", (self.folder / "calls").read_bytes(), 8)[0]
