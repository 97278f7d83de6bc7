"""Fixtures: a service on the mock token, stopped and shown when its test ends."""
import pytest

from mocktoken import MockToken
from service import Service


@pytest.fixture
def make_mock(tmp_path):
    """(service, token), not started."""
    made = []

    def make(lanes=2):
        service = Service(tmp_path / f"mock-{len(made)}", "mock", lanes)
        made.append(service)
        return service, MockToken(service)

    yield make
    for service in made:
        service.stop()
        log = service.folder / "kbsd.log"
        if log.exists():
            print(f"--- {log.name}\n{log.read_text()[-20000:]}")
