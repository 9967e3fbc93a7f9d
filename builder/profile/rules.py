"""Do the settings of a profile agree with each other? Rules over more than one value.

They work on plain data, whole or in parts, so that they are told together with the errors of single values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_VETH_NAME = 15 - len("ve-")  # IFNAMSIZ less its NUL; nspawn would shorten a longer one to a hash

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Disagreement:
    """``path`` leads to the value that has to change."""

    path: Path
    message: str


def disagreements(data: dict[str, Any], *, part: bool = False) -> list[Disagreement]:
    """All there are. A ``part`` is completed by what extends it, so what it lacks is no error."""
    found = [*display(data, part=part), *users(data), *packages(data), *repositories(data), *services(data)]
    found += [*host(data), *isolation(data, part=part), *lists_without_repetition(data)]
    return found + (
        [] if part else [*interface(data), *session(data), *distribution(data), *privileges(data)]
    )


def at(data: Any, *path: str) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def texts(data: Any, *path: str) -> Iterator[tuple[Path, str]]:
    """The strings of a list, each with its path."""
    found = at(data, *path)
    for index, item in enumerate(found if isinstance(found, list) else []):
        if isinstance(item, str):
            yield (*path, index), item


def sections(data: Any, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    found = at(data, key)
    for index, item in enumerate(found if isinstance(found, list) else []):
        if isinstance(item, dict):
            yield index, item


def twice(items: Iterator[tuple[Path, Any]], what: str) -> Iterator[Disagreement]:
    seen: dict[Any, Path] = {}
    for path, item in items:
        if item in seen:
            yield Disagreement(path, f"{what} {item!r} is there twice")
        seen.setdefault(item, path)


def both(data: Any, section: str, one: str, other: str, what: str) -> Iterator[Disagreement]:
    first = {item for _, item in texts(data, section, one)}
    for path, item in texts(data, section, other):
        if item in first:
            yield Disagreement(
                path, f"{what} {item!r} is in both {section}.{one} and {section}.{other}; keep one of them"
            )


def display(data: Any, *, part: bool) -> Iterator[Disagreement]:
    vt, role = at(data, "display", "vt"), at(data, "role")
    if vt == 7 and role != "host" and not (part and role is None):
        yield Disagreement(
            ("display", "vt"),
            "VT 7 is the host's; accepted for a container: 2 to 6 and 8 to 63 (or say role: host)",
        )
    user = at(data, "display", "autologin")
    names = [u.get("name") for _, u in sections(data, "users")]
    if isinstance(user, str) and user not in names and not part:
        there = ", ".join(repr(n) for n in names if isinstance(n, str))
        yield Disagreement(
            ("display", "autologin"),
            f"there is no user {user!r}; " + (f"accepted: {there}" if there else "the profile has no users"),
        )


def session(data: Any) -> Iterator[Disagreement]:
    """The two sessions whose display server everybody knows."""
    server, name = at(data, "display", "server") or "x11", at(data, "display", "session")
    needed = {"i3": "x11", "sway": "wayland"}.get(name) if isinstance(name, str) else None
    if needed and server != needed:
        yield Disagreement(("display", "session"), f"session {name!r} needs display.server: {needed}")


def users(data: Any) -> Iterator[Disagreement]:
    found = list(sections(data, "users"))
    for key, what in (("name", "user"), ("uid", "user id")):
        pairs = (
            (("users", i, key), u[key])
            for i, u in found
            if isinstance(u.get(key), str | int) and u[key] is not None
        )
        yield from twice(pairs, what)
    for index, user in found:
        for group in twice(texts(user, "groups"), "group"):
            yield Disagreement(("users", index, *group.path), group.message)
        for key_line in twice(texts(user, "ssh_keys"), "SSH key"):
            yield Disagreement(("users", index, *key_line.path), "this SSH key is there twice")


def packages(data: Any) -> Iterator[Disagreement]:
    yield from twice(texts(data, "packages", "add"), "package")
    yield from twice(texts(data, "packages", "remove"), "package")
    yield from both(data, "packages", "add", "remove", "package")


def services(data: Any) -> Iterator[Disagreement]:
    yield from twice(texts(data, "services", "enable"), "unit")
    yield from twice(texts(data, "services", "mask"), "unit")
    yield from both(data, "services", "enable", "mask", "unit")


def repositories(data: Any) -> Iterator[Disagreement]:
    found = list(sections(data, "repositories"))
    for key, what in (("name", "repository"), ("url", "repository URL")):
        yield from twice(
            ((("repositories", i, key), r[key]) for i, r in found if isinstance(r.get(key), str)), what
        )


def isolation(data: Any, *, part: bool) -> Iterator[Disagreement]:
    """Abstract sockets of the host, its X server's among them, are part of the network."""
    mode = at(data, "isolation")
    if at(data, "network", "veth") is False and mode != "shared" and not (part and mode is None):
        yield Disagreement(
            ("network", "veth"),
            "isolation: strict, the default, needs a network of its own; leave this line away, or say"
            " isolation: shared",
        )


def privileges(data: Any) -> Iterator[Disagreement]:
    if at(data, "isolation") == "shared" and at(data, "privileges"):
        yield Disagreement(
            ("privileges",),
            "nothing is taken from a shared environment; leave this away, or isolation: shared",
        )


def interface(data: Any) -> Iterator[Disagreement]:
    name = at(data, "name")
    if isinstance(name, str) and len(name) > MAX_VETH_NAME and at(data, "network", "veth") is not False:
        yield Disagreement(
            ("name",),
            f"{name!r} is too long to name a network interface after; accepted: a file name of at most"
            f" {MAX_VETH_NAME} characters, or network.veth: false with isolation: shared",
        )


def lists_without_repetition(data: Any) -> Iterator[Disagreement]:
    yield from twice(texts(data, "devices", "extra"), "device")
    yield from twice(texts(data, "privileges", "capabilities"), "capability")
    yield from twice(texts(data, "privileges", "system_calls"), "system call")
    for key, what in (("use", "USE flag"), ("masks", "mask"), ("unmasks", "unmask")):
        yield from twice(texts(data, "gentoo", key), what)
    for path, flag in texts(data, "gentoo", "use"):
        if flag.startswith("-") and flag[1:] in at(data, "gentoo", "use"):
            yield Disagreement(path, f"USE flag {flag[1:]!r} is turned on and off; keep one of them")
    yield from both(data, "gentoo", "masks", "unmasks", "atom")


def host(data: Any) -> Iterator[Disagreement]:
    if at(data, "role") == "host" and at(data, "bootable") is False:
        yield Disagreement(
            ("bootable",), "a host must be bootable; leave this line away, or say role: container"
        )


def distribution(data: Any) -> Iterator[Disagreement]:
    """Settings and package names of the other distribution."""
    name = at(data, "distribution") or "arch"
    if name == "gentoo":
        if at(data, "repositories"):
            yield Disagreement(
                ("repositories",), "pacman repositories have no place in a Gentoo environment"
            )
        for list_name in ("add", "remove"):
            for path, package in texts(data, "packages", list_name):
                if "/" not in package:
                    yield Disagreement(
                        path, f"{package!r} has no category; accepted for Gentoo: category/name[:slot]"
                    )
    elif name == "arch":
        if at(data, "gentoo"):
            yield Disagreement(("gentoo",), "portage settings have no place in an Arch environment")
        for list_name in ("add", "remove"):
            for path, package in texts(data, "packages", list_name):
                if "/" in package:
                    yield Disagreement(
                        path,
                        f"{package!r} is a Gentoo name; accepted for Arch: the name alone, as pacman has it",
                    )
