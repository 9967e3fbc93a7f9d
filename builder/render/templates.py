"""How does a tree of templates become a tree of files?

A tree below ``builder/templates`` is a picture of its result: ``{{ name }}`` in a file's name is rendered
too, a file ending in ``.j2`` is rendered, any other is copied, and a template that renders to nothing makes
no file. Modes are 0644, or 0755 where the content starts with ``#!``; nothing depends on the umask or the
checkout.
"""

import unicodedata
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from jinja2.exceptions import TemplateError, UndefinedError

from builder.errors import InputError
from builder.render.escape import device_unit, unit_name

SUFFIX = ".j2"


class RenderError(InputError):
    """A value that must not land in a rendered file, or a template that asks for one that is not there."""


def template_root() -> Path:
    return Path(str(resources.files("builder").joinpath("templates")))


def render_tree(tree: Path, dest: Path, values: Mapping[str, Any]) -> list[Path]:
    """Render the template tree ``tree`` into the directory ``dest``; return the files made, relative to it.

    Files that are there already are replaced. Raises RenderError, naming the template.
    """
    environment = template_environment()
    make_directory(dest)
    made = []
    for source in sorted(p for p in tree.rglob("*") if p.is_file()):
        inner = source.relative_to(tree).as_posix()
        name = render_text(environment, inner.removesuffix(SUFFIX), values, where=inner)
        content = source.read_text(encoding="utf-8")
        if inner.endswith(SUFFIX):
            content = render_text(environment, content, values, where=inner)
            if not content.strip():
                continue
        write_file(dest, name, content)
        made.append(Path(name))
    return made


def write_file(dest: Path, name: str, content: str) -> None:
    """Write ``dest/name`` with explicit modes, for it and for the directories made above it."""
    if name.startswith("/") or ".." in name.split("/"):
        raise RenderError(f"{name!r} would be written outside of the tree")
    path = dest / name
    make_directory(path.parent)
    path.unlink(missing_ok=True)
    path.write_text(content, encoding="utf-8")
    path.chmod(0o755 if content.startswith("#!") else 0o644)


def write_link(dest: Path, name: str, target: str) -> None:
    """Make the symbolic link ``dest/name``."""
    path = dest / name
    make_directory(path.parent)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, where they are missing, with mode 0755 whatever the umask."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)


def mask_unit(dest: Path, unit: str) -> None:
    """Make a unit unstartable: a link to /dev/null in /etc/systemd/system (systemd.unit(5))."""
    write_link(dest, f"etc/systemd/system/{unit}", "/dev/null")


def template_environment() -> Environment:
    """Jinja2 for configuration files: every unknown name is an error, every value passes ``guarded``."""
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # the results are configuration files, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=guarded,
    )
    environment.filters["unit"] = unit_name
    environment.filters["device_unit"] = device_unit
    return environment


def guarded(value: Any) -> Any:
    """Let a value into a file only if it cannot end its line or be expanded there.

    Profiles are checked long before; this is the last line of defence, for every value and every file: no
    control or line-breaking character, and no ``%``, which systemd would expand as a specifier.
    """
    if value is None or isinstance(value, StrictUndefined):
        return value
    text = str(value)
    for character in text:
        if character == "%" or unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            raise RenderError(
                f"the value {text!r} contains {character!r}, which no rendered file may contain"
            )
    return value


def render_text(environment: Environment, text: str, values: Mapping[str, Any], *, where: str) -> str:
    if "{" not in text:
        return text
    try:
        return environment.from_string(text).render(values)
    except UndefinedError as e:
        raise RenderError(f"template {where}: {e.message}") from e
    except TemplateError as e:
        raise RenderError(f"template {where} is not valid: {e}") from e
    except RenderError as e:
        raise RenderError(f"template {where}: {e.message}", hint="correct that value in the profile") from e
