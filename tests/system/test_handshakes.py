"""Many handshakes at a time with a key of TLS in the token: none fails, and no process ends of it. What threads do to a confined
process (system calls of malloc and of libuv that a quiet one never makes) shows under load only."""
import json
import os
import pathlib
import subprocess

import pytest

from service import BIN, run

CLIENT = pathlib.Path(os.environ["KBS_BUILD_DIR"]) / "tests" / "bin" / "perf_handshakes"
COUNT = 3000


@pytest.mark.skipif("--tls-key" not in run(BIN / "kbs-admin", "init", "--help").stdout, reason="no key of TLS in the token yet")
def test_no_handshake_fails(make_service):
    service = make_service("mock", init=["--tls-key", "token"])
    service.start()
    before = service.roles()
    address = service.guest_url.removeprefix("https://").rstrip("/")
    for connections in (4, 48):
        done = subprocess.run([CLIENT, "--pin", service.ca, "--count", str(COUNT), "--connections", str(connections), address],
                              stdout=subprocess.PIPE, text=True, timeout=300)
        assert done.returncode == 0
        result = json.loads(done.stdout)
        assert (result["handshakes"], result["failures"], result["failure"]) == (COUNT, 0, "")
    assert service.roles() == before  # the same processes
    assert service.stop() == 0
