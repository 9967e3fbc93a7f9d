"""Which packages, sources and portage settings does a profile accept? As safe as what checks.py has."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from builder.profile.rule import LABEL, Rule, shown, steps_problem

PACMAN_SECTIONS = {"options", "local", "core", "extra", "multilib", "testing", "community", "custom"}
OWN_MAKE_CONF = {  # set by the build, which keeps signatures and lock by them
    *("USE", "ACCEPT_KEYWORDS", "FEATURES", "ROOT", "SYSROOT", "EPREFIX", "PKGDIR", "DISTDIR", "PORTDIR"),
    *("EMERGE_DEFAULT_OPTS", "MAKEOPTS", "GENTOO_MIRRORS", "CHOST", "CBUILD", "PATH", "HOME", "TMPDIR"),
    *("FETCHCOMMAND", "RESUMECOMMAND", "SHELL", "BASH_ENV", "ENV"),
}


def package_why(text: str) -> str | None:
    if re.search(r"[<>=~!]", text):
        return f"{shown(text)} asks for a version; versions are fixed by the lock, name the package alone"
    if text.endswith((".pkg.tar.zst", ".pkg.tar.xz", ".gpkg.tar", ".ebuild")):
        return f"{shown(text)} is a file, not a package name"
    return steps_problem(text) if "/" in text else None


CATEGORY = r"[A-Za-z0-9_][A-Za-z0-9+_.-]*"
EBUILD = r"[A-Za-z0-9_][A-Za-z0-9+_-]*"
SLOT = r"(:[A-Za-z0-9_][A-Za-z0-9+_.-]*)?(::[A-Za-z0-9_][A-Za-z0-9_-]*)?"
PACMAN_PACKAGE = r"[A-Za-z0-9@_+][A-Za-z0-9@._+-]*"
PACKAGE = Rule(
    what="package name",
    accepted="a name as pacman has it ('firefox'), or with distribution: gentoo category/name[:slot]",
    pattern=rf"{PACMAN_PACKAGE}|{CATEGORY}/{EBUILD}{SLOT}",
    example="firefox",
    why=package_why,
)
PackageName = Annotated[str, PACKAGE]


def atom_why(text: str) -> str | None:
    name = text.lstrip("<>=~")
    if name != text and not re.search(r"-[0-9][A-Za-z0-9._]*(-r[0-9]+)?\*?(:.*)?$", name):
        return f"{shown(text)} has an operator but no version"
    if "/" not in text:
        return f"{shown(text)} has no category; write category/name"
    return steps_problem(text)


ATOM = Rule(
    what="package atom",
    accepted="category/name, with an operator and a version, a slot or '*' as portage has it",
    pattern=rf"((>=|<=|=|>|<|~)?(\*|{CATEGORY})/(\*|[A-Za-z0-9_][A-Za-z0-9+_.-]*\*?)){SLOT}",
    example="app-editors/vim",
    why=atom_why,
)
Atom = Annotated[str, ATOM]

USE_FLAG = Rule(
    what="USE flag",
    accepted="a flag, with a leading '-' to turn it off",
    pattern=r"-\*|-?[A-Za-z0-9][A-Za-z0-9+_@-]*",
    example="pulseaudio",
    may_start_with_dash=True,
)
UseFlag = Annotated[str, USE_FLAG]

KEYWORD = Rule(
    what="keyword",
    accepted="an architecture with an optional '~' or '-' before it, '**', '*', '~*' or '-*'",
    pattern=r"\*\*|[~-]?\*|[~-]?[a-z0-9]+(-[a-z0-9]+)*",
    example="~amd64",
    may_start_with_dash=True,
)
Keyword = Annotated[str, KEYWORD]


def make_variable_why(text: str) -> str | None:
    if text in OWN_MAKE_CONF or text.startswith(("PORTAGE_", "BINPKG_", "BASH_FUNC", "LD_")):
        instead = {"USE": "gentoo.use", "ACCEPT_KEYWORDS": "gentoo.keywords"}.get(text)
        return f"{text!r} is set by the build" + (f"; use {instead}" if instead else "")
    return None


MAKE_VARIABLE = Rule(
    what="make.conf variable",
    accepted="capitals, digits and '_', and not one that the build sets itself",
    pattern=r"[A-Z][A-Z0-9_]*",
    example="VIDEO_CARDS",
    longest=64,
    why=make_variable_why,
)
MakeVariable = Annotated[str, MAKE_VARIABLE]

MAKE_VALUE = Rule(
    what="make.conf value",
    accepted="letters, digits, spaces and , . : = @ / + _ ~ * - (no quotes, no $)",
    pattern=r"[A-Za-z0-9 ,.:=@/+_~*-]+",
    example="intel amdgpu",
    longest=1024,
    may_start_with_dash=True,
    may_be_empty=True,
)
MakeValue = Annotated[str, MAKE_VALUE]


def fingerprint_why(text: str) -> str | None:
    digits = fingerprint_clean(text)
    if re.fullmatch(r"[0-9A-F]{8}|[0-9A-F]{16}", digits):
        return f"{shown(text)} is a short key id, which anybody can forge; give the whole fingerprint"
    return None


def fingerprint_clean(text: str) -> str:
    return text.removeprefix("0x").replace(" ", "").upper()


FINGERPRINT = Rule(
    what="OpenPGP fingerprint",
    accepted="40 hexadecimal digits (64 for a version 6 key), spaces allowed",
    pattern=r"(0x)?([0-9A-Fa-f]{4} {0,2}){9}[0-9A-Fa-f]{4}(( {0,2}[0-9A-Fa-f]{4}){6})?",
    example="9D74 DF6F 91B7 BDAB D581 5CA8 4AC5 588F 941C 2A25",
    why=fingerprint_why,
    clean=fingerprint_clean,
)
Fingerprint = Annotated[str, FINGERPRINT]


def url_why(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as e:
        return f"{shown(text)} is not a URL ({e})"
    if parts.scheme == "http" and host not in ("localhost", "127.0.0.1", "::1"):
        return f"{shown(text)} is plain http, which is accepted for this machine alone"
    if parts.scheme not in ("http", "https"):
        return f"{shown(text)} is not an https URL"
    if "@" in parts.netloc:
        return f"{shown(parts.scheme + '://…@' + host)} carries a user name or password"
    if parts.query or parts.fragment or "?" in text or "#" in text:
        return f"{shown(text)} has a query or fragment"
    if port == 0:
        return f"{shown(text)} has port 0"
    return f"{shown(text)} contains '..'" if ".." in text else None


URL = Rule(
    what="URL",
    accepted="https://HOST[:PORT]/PATH, where $repo and $arch are pacman's; http for localhost alone",
    pattern=rf"https?://({LABEL}(\.{LABEL})*|\[::1\])(:[0-9]{{1,5}})?(/([A-Za-z0-9._~+@-]|\$repo|\$arch)*)*",
    example="https://example.org/$repo/os/$arch",
    longest=1024,
    why=url_why,
)
Url = Annotated[str, URL]

REPOSITORY_NAME = Rule(
    what="repository name",
    accepted="lower-case letters, digits, '.', '_' and '-', first a letter or digit; not one of pacman's",
    pattern=r"[a-z0-9][a-z0-9._-]*",
    example="ours",
    longest=64,
    why=lambda t: f"{t!r} is one of pacman's own" if t in PACMAN_SECTIONS else None,
)
RepositoryName = Annotated[str, REPOSITORY_NAME]

RULES = [value for value in list(globals().values()) if isinstance(value, Rule)]
