"""Is anything that is to be kept ever passed over in silence?"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import InputError
from builder.provision.accounts import hashes_in
from builder.provision.keep import Kept
from builder.volume.ext4read import Filesystem, Missing


@dataclass
class Tree:
    """What a filesystem says of its paths: "dir", "link TARGET", "damaged"."""

    paths: dict[str, str]

    def find(self, path: str) -> Any:
        kind = self.paths.get(path.strip("/")) if path.strip("/") else "dir"
        if kind is None and any(known.startswith(f"{path.strip('/')}/") for known in self.paths):
            kind = "dir"
        if kind is None:
            raise Missing(f"there is no {path}")
        if kind == "damaged":
            raise InputError("directory (inode 12) is damaged")
        place = path.strip("/")
        link, folder = kind.startswith("link "), kind == "dir"
        return SimpleNamespace(path=place, is_link=link, is_directory=folder, inode=kind)

    def inode(self, number: int) -> str:
        return "dir"

    resolve = Filesystem.resolve

    def data(self, entry: Any) -> bytes:
        raise AssertionError(f"{entry} was read")

    def target(self, inode: str) -> str:
        return inode.removeprefix("link ")


def kept(paths: dict[str, str], *wanted: str) -> list[str]:
    return list(Kept(Tree(paths), wanted).roots)  # type: ignore[arg-type]


def test_what_is_there_is_kept_and_what_never_was_is_left_to_the_image() -> None:
    assert kept({"home": "dir"}, "/home", "/etc/wireguard") == ["home"]


def test_a_damaged_directory_is_not_taken_for_one_that_never_was() -> None:
    with pytest.raises(InputError, match="damaged"):
        kept({"home": "damaged"}, "/home")


def test_a_damaged_password_file_is_not_taken_for_one_without_passwords() -> None:
    with pytest.raises(InputError, match="damaged"):
        hashes_in(Tree({"etc/shadow": "damaged"}), ["user"])  # type: ignore[arg-type]
    assert hashes_in(Tree({}), ["user"]) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["/data/home", "data/home"])
def test_a_link_in_the_place_of_what_is_to_be_kept_is_refused(target: str) -> None:
    with pytest.raises(InputError, match=f"/home is a link to {target}") as e:
        kept({"home": f"link {target}", "data/home": "dir"}, "/home")
    assert "/data/home in `keep:`" in (e.value.hint or "")


def test_a_link_above_what_is_to_be_kept_is_refused() -> None:
    with pytest.raises(InputError, match="/srv is a link") as e:
        kept({"srv": "link var/srv", "var/srv": "dir", "var/srv/mail": "dir"}, "/srv/mail")
    assert "/var/srv/mail in `keep:`" in (e.value.hint or "")


def test_a_link_to_a_file_is_kept_as_the_link_it_is() -> None:
    paths = {"etc/localtime": "link ../usr/share/zoneinfo/UTC", "usr/share/zoneinfo/UTC": "file"}
    assert kept(paths, "/etc/localtime") == ["etc/localtime"]


@pytest.mark.parametrize(
    "links",
    [
        {"home": "link /data/h", "data/h": "link ../srv/home"},
        {"home": "link data/home", "data": "link /srv"},
        {"home": "link ./x/../data/./home", "x": "dir", "data": "link srv"},
    ],
)
def test_what_is_kept_is_not_lost_behind_several_links(links: dict[str, str]) -> None:
    paths = {**links, "srv": "dir", "srv/home": "dir"}
    with pytest.raises(InputError, match="/home is a link to") as e:
        kept(paths, "/home")
    assert "write /srv/home in `keep:`" in (e.value.hint or "")
    assert kept(paths, "/home", "/srv/home") == ["home", "srv/home"]


def test_a_link_to_a_file_that_would_go_is_refused_and_one_to_nothing_is_not() -> None:
    paths = {"etc/wg.conf": "link /srv/wg.conf", "srv/wg.conf": "file", "etc/none": "link /srv/none"}
    with pytest.raises(InputError, match="is to be kept, and /etc/wg") as e:
        kept(paths, "/etc/wg.conf")
    assert "write /srv/wg.conf in `keep:` of the seat file too" in (e.value.hint or "")
    assert kept(paths, "/etc/none") == ["etc/none"]


def test_links_that_go_round_are_kept_as_they_are() -> None:
    assert kept({"home": "link /data", "data": "link /home"}, "/home") == ["home"]
