"""Which addresses of a published directory are taken?"""

import pytest

from builder.errors import InputError
from builder.publish.fetch import Site


@pytest.mark.parametrize("url", ["http://[::1", "https://[half"])
def test_an_address_that_cannot_be_read_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        Site(url)


def test_an_unknown_kind_of_address_says_which_are_known() -> None:
    with pytest.raises(InputError, match="unknown kind") as e:
        Site("gopher://example/images")
    assert "oci://" in (e.value.hint or "")
