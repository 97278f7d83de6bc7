"""docs/from-trustee.md as an operator follows it: every fenced command is run, from top to bottom, in one shell.

What is other than in the document, and only this: /srv/kbs is a folder of this test, and both ports are free ones, which kbsd
announces (and which the administrator's profile is then told); `kbs-client` is kbs_client.py; a `toml` block takes the place of the
tables of the same name in kbs.toml.
A command whose line ends in `# fails: TEXT` must fail, and say TEXT; a `text` block is lines of what the last command said.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import table
from world import BIN, Service

KBS_CLIENT = pathlib.Path(__file__).with_name("kbs_client.py")

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FAILS = re.compile(r"\s+# fails: (.+)$")
START = re.compile(r"^kbsd -c /srv/kbs/kbs\.toml &$", re.M)
SECTION = re.compile(r"^\[+([\w.]+)\]+$", re.M)
TIMEOUT_S = 300


def blocks():
    return FENCE.findall(table.DOCUMENT.read_text())


def with_tables(config, text):
    """kbs.toml with the tables of `text` in place of its own of these names."""
    names = {name.split(".")[0] for name in SECTION.findall(text)}
    parts = re.split(r"(?m)^(?=\[)", config)
    kept = [part for part in parts if not (found := SECTION.match(part)) or found.group(1).split(".")[0] not in names]
    return "".join(kept) + "\n" + text


class Existing(Service):
    """A service that somebody else has set up."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None
        self.kbsd = [BIN / "kbsd"]
        self.configuration = "kbs.toml"
        self.log_name = "kbsd.log"
        self.announce = folder / "announce.json"


class Operator:
    """A folder, a service in it, and a shell that remembers nothing but files, functions and exported variables."""

    def __init__(self, folder):
        self.folder = folder
        self.home = folder / "srv"
        self.service = None
        self.said = ""  # by the last command
        programs = folder / "bin"
        programs.mkdir()
        (programs / "kbs-client").write_text(f'#!/bin/sh\nexec {sys.executable} -B {KBS_CLIENT} "$@"\n')
        (programs / "kbs-client").chmod(0o755)
        self.environment = os.environ | {"PATH": f"{programs}:{BIN}:{os.environ['PATH']}", "HOME": str(folder)}

    def here(self, text):
        """The document's text with this test's folder and addresses."""
        text = text.replace("/srv/kbs", str(self.home))
        guest, admin = ("https://127.0.0.1:0", "https://127.0.0.1:0")
        if self.service is not None:
            guest, admin = self.service.guest_url, self.service.admin_url
        for old, new in (("127.0.0.1:8080", guest), ("127.0.0.1:8081", admin)):
            text = text.replace(old, new.removeprefix("https://"))
        return text

    def start(self):
        self.service = Existing(self.home)
        self.service.start()
        profile = self.home / "admin" / "profile.json"
        profile.write_text(json.dumps(json.loads(profile.read_text()) | {"url": self.service.admin_url}))

    def shell(self, text):
        """Runs commands that must all succeed; what they define and export is there for the next ones."""
        state = self.folder / "state.sh"
        script = (f'set -euo pipefail\n[ ! -e {state} ] || . {state}\n{text}\n'
                  f"{{ declare -f; export -p | grep ' KBS_'; }} > {state} || true\n")
        done = subprocess.run(["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True,
                              timeout=TIMEOUT_S)
        self.said = done.stdout + done.stderr
        return done.returncode, self.said

    def run(self, text):
        """A block: one piece up to each command that is to fail, and the one that starts the service."""
        piece = []
        for line in text.splitlines():
            fails = FAILS.search(line)
            if fails or START.match(line):
                self.expect_success(piece)
                piece = []
            if fails:
                code, said = self.shell(self.here(line[:fails.start()]))
                assert code != 0 and fails.group(1) in said, f"{line}\n{code}: {said}"
            elif START.match(line):
                self.start()
            else:
                piece.append(line)
        self.expect_success(piece)

    def expect_success(self, lines):
        if any(line.strip() for line in lines):
            text = self.here("\n".join(lines))
            code, said = self.shell(text)
            assert code == 0, f"{text}\n--- exit status {code}\n{said}"

    def write_tables(self, text):
        config = self.home / "kbs.toml"
        config.write_text(with_tables(config.read_text(), self.here(text)))


@pytest.fixture
def operator(tmp_path):
    one = Operator(tmp_path)
    yield one
    if one.service is not None:
        one.service.stop()
        print(one.service.log_text()[-8000:])


@pytest.mark.skipif(not (BIN / "kbs-policy").exists(), reason="kbs-policy is not built (no cargo, or no crates)")
def test_every_command_of_the_document(operator):
    ran = 0
    for language, text in blocks():
        if language == "sh":
            operator.run(text)
            ran += 1
        elif language == "toml":
            operator.write_tables(text)
        else:
            missing = set(text.splitlines()) - set(operator.said.splitlines())
            assert not missing, f"{missing}\n--- was said:\n{operator.said}"
    assert ran >= 10


def test_only_commands_that_are_run_are_shown():
    """A block of another kind would be a command nobody has tried."""
    assert {language for language, _ in blocks()} == {"sh", "toml", "text"}


def test_programs_of_the_document_are_there():
    named = set(re.findall(r"\b(kbsd|kbs-admin|kbs-guest)\b", "".join(text for _, text in blocks())))
    assert named == {"kbsd", "kbs-admin", "kbs-guest"}
    assert all((BIN / name).exists() for name in named) and shutil.which("openssl") and shutil.which("curl")
