"""How is a difference between two images shown: as text, as JSON, as a web page?"""

from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from builder.publish.diff import Change, ImageDiff
from builder.ui import size_text

SIGNS = {"added": "+", "removed": "-", "changed": "~"}
SHOWN = 200  # files of one section that the text names; JSON and HTML have all


def sections(diff: ImageDiff) -> list[tuple[str, Sequence[Change]]]:
    """Headings and changes, in the order of a reviewer's interest."""
    return [
        ("Packages", diff.packages),
        ("Special rights (setuid, setgid, capabilities)", diff.special),
        ("Units enabled or masked", diff.enabled),
        ("Units", diff.units),
        ("Modes and owners", diff.rights),
        ("Files", diff.files),
    ]


def size_line(diff: ImageDiff) -> str:
    change = diff.new_size - diff.old_size
    sign = "+" if change >= 0 else "-"
    return (
        f"{size_text(diff.old_size)} → {size_text(diff.new_size)} unpacked ({sign}{size_text(abs(change))})"
    )


def as_text(diff: ImageDiff, *, shown: int = SHOWN) -> str:
    lines = [f"{diff.old} → {diff.new}", size_line(diff)]
    if diff.empty:
        return "\n".join([*lines, "no differences in packages, files or rights"])
    for title, found in sections(diff):
        if not found:
            continue
        lines += ["", f"{title}: {summary(found)}"]
        lines += [f"  {SIGNS[c.kind]} {c.name}{values(c)}" for c in found[:shown]]
        if len(found) > shown:
            lines.append(f"  … and {len(found) - shown} more (--json or --html shows all)")
    return "\n".join(lines)


def summary(found: Sequence[Change]) -> str:
    counts = {kind: sum(c.kind == kind for c in found) for kind in SIGNS}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def values(change: Change) -> str:
    match change.kind:
        case "added":
            return f"  {change.new}"
        case "removed":
            return f"  {change.old}"
        case _:
            return f"  {change.old} → {change.new}"


def as_json(diff: ImageDiff) -> dict[str, Any]:
    return asdict(diff)


def as_html(diff: ImageDiff) -> str:
    return render_page("diff.html.j2", diff=diff, sections=sections(diff), sizes=size_line(diff))


def render_page(template: str, **values: Any) -> str:
    """One of this package's page templates; every value is escaped."""
    import jinja2

    folder = resources.files("builder.publish").joinpath("pages")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text()),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size_text
    environment.globals["signs"] = SIGNS
    environment.globals["summary"] = summary
    return environment.get_template(template).render(**values)
