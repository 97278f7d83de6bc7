"""Services of the conformance suite, and the table that its run prints."""
import os
import pathlib

import pytest

import table
from world import EACH_TOKEN, Issuer, World

RESULTS = {}


class Worlds:
    """One service per token, and the others that some rows ask for, made when they are first needed."""

    def __init__(self, factory):
        self.factory = factory
        self.issuer = Issuer()
        self.made = {}

    def get(self, name, **options):
        if name not in self.made:
            folder = self.factory.mktemp(name)
            self.made[name] = World(folder / "kbs", options.pop("token", "softhsm"), self, **options)
        return self.made[name]

    def of_token(self, token):
        return self.get(token, token=token)

    def stop(self):
        for world in self.made.values():
            world.stop()
            print(f"--- kbsd.log of {world.service.folder}\n{world.service.log_text()[-8000:]}")


@pytest.fixture(scope="session")
def worlds(tmp_path_factory):
    made = Worlds(tmp_path_factory)
    yield made
    made.stop()


@pytest.fixture(params=EACH_TOKEN)
def token(request):
    return request.param


@pytest.fixture
def world(worlds, token):
    return worlds.of_token(token)


def pytest_runtest_logreport(report):
    """Keeps what became of each row with each token: "passed", or what else it was."""
    name = dict(report.user_properties).get("row")
    if name is not None and (report.when == "call" or report.outcome != "passed"):
        RESULTS.setdefault(name, {})[dict(report.user_properties)["token"]] = report.outcome


def pytest_terminal_summary(terminalreporter):
    if RESULTS:
        text = table.text_of(RESULTS, EACH_TOKEN)
        terminalreporter.write_sep("=", "conformance")
        terminalreporter.write(text)
        folder = os.environ.get("KBS_BUILD_DIR")
        if folder:
            (pathlib.Path(folder) / "conformance.txt").write_text(text)
