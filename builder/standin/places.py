"""Where on this machine is what a ``standin:`` URL of a lock names?"""

from pathlib import Path

STANDIN_SCHEME = "standin:"
GENTOO = "gentoo/"  # how the paths of Gentoo's stand-in begin; the others are Arch's


def standin_root(url: str) -> tuple[Path, str]:
    """The directory that a ``standin:`` URL is served from, made first where missing, and the path below."""
    path = url.removeprefix(STANDIN_SCHEME)
    if path.startswith(GENTOO):
        from builder.standin.gentoo.mirror import ensure_gentoo_mirror

        return ensure_gentoo_mirror().root, path.removeprefix(GENTOO)
    from builder.standin.mirror import ensure_mirror

    return ensure_mirror().root, path
