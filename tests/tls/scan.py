"""What ci/tls-scan runs: other people's TLS scanners against a real service, and why what they find is as it should be.

    scan.py testssl [--profile NAME ...]     testssl.sh at both listeners of a service (explained.txt)
    scan.py tlsfuzzer                        tlsfuzzer's scripts at a front (tlsfuzzer.txt)

TESTSSL is testssl.sh's script, TESTSSL_INSTALL_DIR its data. TLSFUZZER is a checkout of tlsfuzzer and TLSFUZZER_PYTHON a python
that has tlslite-ng and ecdsa (python3). Prints a table; exit status 1 if anything in it is not explained.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "system"), str(HERE.parent / "front")]

HARMLESS = ("OK", "INFO", "DEBUG")
SCAN_S = 900
SCRIPT_S = 600
PROFILES = ("modern", "intermediate", "old")


class Lists(Exception):
    """A list that makes no sense."""


def read_list(path, kinds):
    """Lines of fields with | between them: the first is the kind, kinds says how many follow."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind = line.split("|", 1)[0].strip()
        if kind not in kinds:
            raise Lists(f"{path.name}:{number}: {kind!r} is not one of {', '.join(kinds)}")
        least, most = kinds[kind]
        fields = [text.strip() for text in re.split(r"(?:^|\s)\|(?=\s|$)", line)]
        if not least <= len(fields) - 1 <= most:
            raise Lists(f"{path.name}:{number}: {len(fields) - 1} fields")
        rows.append(fields + [""] * (most + 1 - len(fields)))
    return rows


class Table:
    """What was found, and what is thought of it."""

    def __init__(self):
        self.rows, self.unexplained = [], 0

    def add(self, *fields, reason=""):
        self.unexplained += not reason
        self.rows.append((*fields, reason or "NOT EXPLAINED"))

    def show(self):
        widths = [max(len(str(row[i])) for row in self.rows) for i in range(len(self.rows[0]) - 1)] if self.rows else []
        for *fields, reason in self.rows:
            print("  ".join(str(field).ljust(width) for field, width in zip(fields, widths)) + "  " + reason)
        print(f"{len(self.rows)} lines, {self.unexplained} not explained", flush=True)


# ---- testssl.sh ----

def applies(profiles, profile):
    return profiles == "all" or profile in profiles.split()


def judge_testssl(findings, lists, profile, where, table):
    """Findings above INFO, and what is offered."""
    for finding in findings:
        if finding["severity"] in HARMLESS:
            continue
        reason = next((reason for kind, profiles, name, pattern, reason in lists
                       if kind == "explained" and applies(profiles, profile) and name == finding["id"]
                       and re.fullmatch(pattern, finding["finding"])), "")
        table.add(where, finding["severity"], finding["id"], finding["finding"][:60], reason=reason)
    for kind, profiles, name, pattern, reason in lists:
        if kind != "offered" or not applies(profiles, profile):
            continue
        found = [finding["finding"] for finding in findings if finding["id"] == name]
        right = all(re.fullmatch(pattern, text.strip()) for text in found) if pattern else not found
        if pattern and not found:
            right, found = False, ["nothing said of it"]
        table.add(where, "offered", name, (found or ["none"])[0][:60], reason=reason if right else "")


def run_testssl(url, folder):
    """Its findings; RuntimeError if it did not get to its end."""
    output, log = folder / "findings.json", folder / "testssl.log"
    output.unlink(missing_ok=True)
    # It wants a program that asks name servers to be there, and never calls it for an address.
    stub = folder / "bin" / "host"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    with open(log, "wb") as file:
        done = subprocess.run(["bash", os.environ["TESTSSL"], "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none",
                               "--jsonfile", output, url.removeprefix("https://").rstrip("/")], cwd=folder,
                              env={**os.environ, "PATH": f"{os.environ['PATH']}:{stub.parent}"}, stdin=subprocess.DEVNULL,
                              stdout=file, stderr=file, timeout=SCAN_S)
    findings = json.loads(output.read_text()) if output.exists() else []
    if done.returncode > 200 or not any(finding["id"] == "scanTime" for finding in findings):
        raise RuntimeError(f"testssl.sh exited {done.returncode} before its end:\n" + log.read_text(errors="replace")[-3000:])
    return findings


def use_profile(service, profile):
    """For both listeners; the default needs no word, which builds that know one profile only would not take."""
    if profile != "modern":
        path = service.folder / "kbs.toml"
        path.write_text(re.sub(r"(?m)^\[(http|admin)_server\]$", rf'[\1_server]\ntls_profile = "{profile}"', path.read_text()))


def scan_testssl(profiles):
    from service import Service

    lists = read_list(HERE / "explained.txt", {"explained": (4, 4), "offered": (4, 4)})
    table = Table()
    for profile in profiles:
        with tempfile.TemporaryDirectory(prefix="kbs-tls-scan-") as name:
            folder = pathlib.Path(name)
            service = Service(folder / "service", "mock")
            use_profile(service, profile)
            try:
                service.start()
                for where, url in (("guest", service.guest_url), ("admin", service.admin_url)):
                    judge_testssl(run_testssl(url, folder), lists, profile, f"{profile} {where}", table)
            finally:
                service.stop()
    return table


# ---- tlsfuzzer ----

def failed_probes(output):
    """The names that a script prints below "FAILED:" (or "failed: N", as older ones do)."""
    names, within = [], False
    for line in output.splitlines():
        if re.match(r"(FAILED:|failed: \d)", line):
            within = True
        elif within and (quoted := re.fullmatch(r"\s+(['\"])(.*)\1", line)):
            names.append(quoted[2])
        elif within and line.strip():
            within = False
    return names


def judge_script(script, returncode, output, lists, table):
    """One line for the script, one more for each probe that failed."""
    failed = failed_probes(output)
    if returncode == 0 and not failed:
        table.add(script, "passed", "", reason="-")
        return
    if not failed:
        last = output.strip().splitlines()[-1:] or ["no output"]
        table.add(script, f"exit {returncode}", last[0][:70])
    for probe in failed:
        reason = next((row[3] for row in lists if row[:2] == ["explained", script] and re.fullmatch(row[2], probe)), "")
        table.add(script, "failed", probe[:70], reason="" if probe == "sanity" else reason)


def run_script(checkout, script, arguments, port):
    try:
        done = subprocess.run([os.environ.get("TLSFUZZER_PYTHON", "python3"), checkout / "scripts" / script, "-h", "127.0.0.1",
                               "-p", str(port), *shlex.split(arguments)], cwd=checkout, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=SCRIPT_S,
                              env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"})
    except subprocess.TimeoutExpired:
        return 124, f"not done after {SCRIPT_S} s"
    return done.returncode, done.stdout


def scan_tlsfuzzer(checkout):
    from harness import Credentials, Front

    lists = read_list(HERE / "tlsfuzzer.txt", {"run": (1, 2), "explained": (3, 3), "skip": (2, 2)})
    table = Table()
    with tempfile.TemporaryDirectory(prefix="kbs-tls-scan-") as folder:
        credentials = Credentials(folder)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", credentials.key,
                        "-out", credentials.cert, "-days", "2", "-subj", "/CN=kbs"], check=True, capture_output=True)
        with Front(max_connections=1024, credentials=credentials, attach=False) as front:
            for kind, script, arguments, *_ in lists:
                if kind == "run" and not (checkout / "scripts" / script).exists():
                    table.add(script, "absent", "", reason="not in this checkout")
                elif kind == "run":
                    judge_script(script, *run_script(checkout, script, arguments, front.tls.getsockname()[1]), lists, table)
    known = {row[1] for row in lists}
    for path in sorted((checkout / "scripts").glob("test-tls13-*.py")):
        if path.name not in known:
            table.add(path.name, "unknown", "", reason="not in tlsfuzzer.txt: newer than it?")
    for row in lists:
        if row[0] == "skip":
            table.add(row[1], "skipped", "", reason=row[2])
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scanner", choices=("testssl", "tlsfuzzer"))
    parser.add_argument("--profile", choices=PROFILES, action="append")
    arguments = parser.parse_args()
    if arguments.scanner == "testssl":
        table = scan_testssl(arguments.profile or ["modern"])
    else:
        table = scan_tlsfuzzer(pathlib.Path(os.environ["TLSFUZZER"]).resolve())
    table.show()
    return 1 if table.unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
