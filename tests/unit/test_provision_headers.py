"""Is a place that no backup of a header can have refused before anybody is asked for a passphrase?"""

from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision.headers import check_place


def test_a_file_a_link_and_a_missing_directory_are_refused_and_a_new_file_is_not(tmp_path: Path) -> None:
    letter, link = tmp_path / "letter", tmp_path / "link"
    letter.touch()
    link.symlink_to("nowhere")
    for taken in (letter, link, tmp_path):
        with pytest.raises(InputError, match="is there already"):
            check_place(taken)
    with pytest.raises(InputError, match="no directory"):
        check_place(tmp_path / "none" / "backup")
    check_place(tmp_path / "backup")
