"""Services that hand evidence to attestation services, and the table of levels and attacks that the run prints."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "system"))

TABLE = {}  # attack -> level -> what became of it
LEVELS = ("token", "session", "evidence", "full")
LATENCY = []  # lines


def table():
    width = max(map(len, TABLE)) + 2
    lines = ["which binding level stops which attack of an attestation service", "",
             " " * width + "".join(f"{level:<12}" for level in LEVELS)]
    for attack, found in TABLE.items():
        lines.append(f"{attack:<{width}}" + "".join(f"{found.get(level, '-'):<12}" for level in LEVELS).rstrip())
    return "\n".join(lines) + "\n"


def pytest_terminal_summary(terminalreporter):
    text = (table() if TABLE else "") + "".join("\n" + line + "\n" for line in LATENCY)
    if text:
        terminalreporter.write_sep("=", "delegation")
        terminalreporter.write_line(text)
        if folder := os.environ.get("KBS_BUILD_DIR"):
            (pathlib.Path(folder) / "delegation.txt").write_text(text)
