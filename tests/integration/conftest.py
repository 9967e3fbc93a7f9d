"""What do the integration tests share? The tools tree, and OpenPGP keys made on the spot."""

from collections.abc import Iterator

import pytest

from builder.outputs.gpg import temporary_keyring
from builder.tools import Tools, ensure_tools
from tests.support.gpgkeys import KeyMaker, TestKey


@pytest.fixture(scope="session")
def tools() -> Tools:
    return ensure_tools()


@pytest.fixture(scope="session")
def make_key(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyMaker]:
    """Makes keys; see tests.support.gpgkeys."""
    with temporary_keyring(tools) as ring:
        yield KeyMaker(ring, tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def release(make_key: KeyMaker) -> TestKey:
    """The key that results are signed with in most tests."""
    return make_key("release")
