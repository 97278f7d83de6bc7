"""Fixtures of the system suite. Each test owns its service: its own token folder, store, ledger and ports."""
import pytest

from service import EACH_TOKEN, Service


@pytest.fixture
def make_service(tmp_path):
    """Makes services that are stopped, and whose logs are shown, when the test ends."""
    made = []

    def make(token="softhsm", lanes=2, init=()):
        made.append(Service(tmp_path / f"{token}-{len(made)}", token, lanes, init))
        return made[-1]

    yield make
    for one in made:
        one.stop()
        log = one.folder / "kbsd.log"
        if log.exists():
            print(f"--- {log.name} of {one.token}\n{log.read_text()[-20000:]}")


@pytest.fixture(params=EACH_TOKEN)
def token(request):
    return request.param


@pytest.fixture
def service(make_service, token):
    return make_service(token).start()


@pytest.fixture
def soft(make_service):
    """SoftHSM alone, for what does not depend on the token."""
    return make_service("softhsm").start()
