"""Every endpoint and client behaviour of the KBS protocol, by clients that share nothing with src/: each row of the table passes, or
differs for a reason that docs/from-trustee.md gives, and differs exactly so."""
import pytest

import rows_handshake  # noqa: F401  rows register themselves
import rows_resource  # noqa: F401
import rows_commands  # noqa: F401
import rows_svsm  # noqa: F401
import rows_wrap_key  # noqa: F401
import table
from world import BIN, run


@pytest.mark.parametrize("row", table.ROWS, ids=lambda row: row.name)
def test_row(row, token, request, worlds):
    request.node.user_properties += [("row", row.name), ("token", token)]
    row.check(worlds.of_token(token))


def test_every_difference_has_one_reason():
    """The reasons stand in the document alone; each is used, and none is missing."""
    reasons = table.reasons()
    used = {row.differs for row in table.ROWS if row.differs is not None}
    assert used - set(reasons) == set(), "no reason in the document"
    assert set(reasons) - used == set(), "no row shows it"


def test_every_section_is_there():
    sections = {row.section.split()[0] for row in table.ROWS}
    assert {f"1.{n}" for n in range(1, 14)} <= sections


def test_the_ledger_of_all_that_verifies(worlds, token):
    """Mutations by Bearer tokens and by anybody are recorded as well as signed ones."""
    service = worlds.of_token(token).service
    run(BIN / "kbs-admin", "audit", "verify", service.ledger_path)
    assert {record["auth"] for record in service.records("secret-set")} <= {"bearer", "signed"}
