import pytest

from doubles import Admin


@pytest.fixture
def admin(tmp_path):
    one = Admin(tmp_path)
    with one.server:
        yield one
