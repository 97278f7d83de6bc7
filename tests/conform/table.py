"""The conformance table: rows register themselves here, are run by test_conform.py, and are printed by conftest.py.

A row is one sentence about what clients of the KBS protocol meet, and the function that shows it. A row that shows how we differ
names its reason, which stands once, in the table "What differs" of docs/from-trustee.md.
"""
import pathlib
import re
from dataclasses import dataclass
from typing import Callable

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "from-trustee.md"
ROWS = []


@dataclass(frozen=True)
class Row:
    section: str  # of the protocol's description: 1.1 endpoints, 1.2 errors, ...; or the client's name
    what: str
    check: Callable
    differs: str | None  # key of a reason

    @property
    def name(self):
        return f"{self.section} {self.what}"


def row(section, what, differs=None):
    def register(check):
        assert all(r.name != f"{section} {what}" for r in ROWS), f"{section} {what}: twice"
        ROWS.append(Row(section, what, check, differs))
        return check
    return register


def reasons():
    """{key: (Trustee's, ours and why)} from the document."""
    text = DOCUMENT.read_text()
    table = text[text.index("\n## What differs\n"):].split("\n## ", 2)[1]
    found = {}
    for line in table.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            key = cells[0].strip("`")
            assert key not in found, f"{key} is there twice"
            found[key] = tuple(cells[1:])
    return found


def in_order():
    """Rows by section, as the protocol's description has them; the clients after it."""
    def place(r):
        number = r.section.split()[0].split(".")
        return [int(n) for n in number] if number[0].isdigit() else [99]
    return sorted(ROWS, key=place)


def text_of(results, tokens):
    """The table as it is printed. results: {row name: {token: "pass" or what else}}."""
    why = reasons()
    width = max(len(r.what) for r in ROWS) + 1
    lines = ["conformance to the KBS protocol and its clients: " + ", ".join(tokens), ""]
    section = None
    for r in in_order():
        if r.section != section:
            section = r.section
            lines.append(f"  {section}")
        outcome = results.get(r.name, {})
        got = ["pass" if outcome.get(t) == "passed" else outcome.get(t, "not run") for t in tokens]
        result = got[0] if len(set(got)) == 1 else " ".join(f"{t}:{g}" for t, g in zip(tokens, got))
        if r.differs is not None and result == "pass":
            result = f"differs ({r.differs})"
        lines.append(f"    {r.what:{width}} {result}")
    used = dict.fromkeys(r.differs for r in in_order() if r.differs is not None)
    lines += ["", "differs, on purpose, and tested to differ so:"]
    lines += [f"    {key}: {why[key][2]}" for key in used if key in why]
    passed = sum(set(results.get(r.name, {}).values()) == {"passed"} for r in ROWS)
    lines += ["", f"{passed} of {len(ROWS)} rows pass, {sum(r.differs is not None for r in ROWS)} of them by a reasoned deviation"]
    return "\n".join(lines) + "\n"
