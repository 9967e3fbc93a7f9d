"""How is a plan shown? As a table for people, as plain data for programs, and as a picture."""

from dataclasses import asdict
from html import escape
from typing import Any

from builder.seat.plan import Plan
from builder.sizes import format_size
from builder.ui import size_text
from builder.volume import cipher, luks, lvm

Row = tuple[str, str, int, int]  # what, which, offset on the disk, size

WIDTH, BAR, LINE = 960, 56, 22  # of the picture, in pixels
COLOURS = {"table": "#d8d8d8", "esp": "#f3c567", "swap": "#b8d8ba", "luks": "#8fb8de", "free": "#ffffff"}


def rows(plan: Plan) -> list[Row]:
    """Everything on the disk in its order, without gaps that matter."""
    found = [
        ("protective MBR, GPT", "", 0, 34 * 512),
        ("EFI system partition", f"FAT32, id {plan.esp_serial:08x}", plan.esp.start, plan.esp.size),
        ("LVM physical volume", f"{plan.group.name}, label and metadata", plan.pv.start, lvm.FIRST_EXTENT),
    ]
    for volume in plan.volumes:
        if (environment := volume.environment) is None:
            what = "new random key each boot" if plan.swap_encrypted else "in the clear"
            found.append(("swap volume", f"{volume.name}, {what}", volume.offset, volume.size))
            continue
        what = f"{volume.name}, image of {environment.profile}, VT{environment.vt}"
        found.append(("LUKS2 header", volume.name, volume.offset, luks.HEADER_SIZE))
        found.append(("ext4, encrypted", what, environment.payload, environment.payload_size))
    used = plan.group.offset(sum(v.extents for v in plan.volumes))
    if plan.free_extents:
        free = plan.free_extents * plan.group.extent_size
        found.append(("free extents", f"{plan.free_extents} of 4 MiB", plan.pv.start + used, free))
    found.append(("backup GPT", "", plan.disk_size - 33 * 512, 33 * 512))
    return found


def as_data(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    data = asdict(plan)
    for part in ("esp", "pv"):
        data[part] |= {k: str(data[part][k]) for k in ("id", "type")}
    data["luks"] = {
        "cipher": luks.CIPHER,
        "sector_size": cipher.SECTOR,
        "header_size": luks.HEADER_SIZE,
        "pbkdf": plan.pbkdf,
    }
    data["layout"] = [dict(zip(("what", "which", "offset", "size"), row, strict=True)) for row in rows(plan)]
    data["free_extents"] = plan.free_extents
    return data


def as_text(plan: Plan) -> str:
    """The plan as a table, with the ids that matter below."""
    table = rows(plan)
    widths = [max(len(row[0]) for row in table), max(len(row[1]) for row in table)]
    lines = [
        f"Seat {plan.seat}: {format_size(plan.disk_size)} ({plan.disk_size} bytes), disk id {plan.disk_id}",
        "",
        f"{'what':{widths[0]}}  {'which':{widths[1]}}  {'offset':>15}  {'size':>15}",
        *(
            f"{what:{widths[0]}}  {which:{widths[1]}}  {offset:>15}  {size:>15}  {size_text(size)}"
            for what, which, offset, size in table
        ),
        "",
        f"LVM volume group {plan.group.name}, id {plan.group.id}, extents of 4MiB",
    ]
    for v in plan.volumes:
        last = v.first_extent + v.extents - 1
        lines.append(f"  {v.name}: extents {v.first_extent}-{last}, id {v.id}")
    cost = "argon2id at the cost measured when it is written"
    cost = "argon2id, cheap: FOR TESTS ALONE" if plan.pbkdf is luks.Pbkdf.FAST_TEST else cost
    lines += ["", f"LUKS2: {luks.CIPHER}, 512-bit key, sectors of {cipher.SECTOR} bytes, {cost}"]
    for e in plan.environments:
        key = ", also opened by a key on its hosts' root" if e.keyfile else ""
        lines.append(f"  {e.name}: {e.luks_id}, ext4 {e.filesystem_id}{key}")
    lines += ["", "Boot menu (the first one is the default)"]
    for entry in plan.entries:
        lines += [f"  {entry.title}", f"    {entry.options}"]
    return "\n".join(lines)


def as_svg(plan: Plan) -> str:
    """A bar of the disk, drawn so that small parts stay visible, and a line for each part."""
    table = rows(plan)
    smallest = WIDTH / 40
    scale = (WIDTH - smallest * len(table)) / sum(size for *_, size in table)
    height = BAR + 70 + LINE * len(table)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-20 -40 {WIDTH + 40} {height + 40}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect x="-20" y="-40" width="{WIDTH + 40}" height="{height + 40}" fill="#fdfdfd"/>',
        f'<text x="0" y="-14" font-size="18">Seat {escape(plan.seat)}: '
        f"{escape(format_size(plan.disk_size))}</text>",
    ]
    x = 0.0
    for n, (what, which, offset, size) in enumerate(table):
        width = smallest + size * scale
        colour = COLOURS[kind_of(what)]
        parts.append(
            f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="{BAR}" fill="{colour}" stroke="#555"/>'
            f'<text x="{x + width / 2:.1f}" y="{BAR / 2 + 5:.0f}" text-anchor="middle">{n + 1}</text>'
        )
        y = BAR + 40 + LINE * n
        label = f"{n + 1}. {what}" + (f" ({which})" if which else "")
        parts.append(
            f'<rect x="0" y="{y - 12}" width="14" height="14" fill="{colour}" stroke="#555"/>'
            f'<text x="24" y="{y}">{escape(label)}</text>'
            f'<text x="{WIDTH}" y="{y}" text-anchor="end">{escape(size_text(size))} at byte {offset}</text>'
        )
        x += width
    return "\n".join([*parts, "</svg>", ""])


def kind_of(what: str) -> str:
    if "GPT" in what or "LVM" in what:
        return "table"
    words = {"esp": "EFI", "swap": "swap", "free": "free", "luks": ""}
    return next(kind for kind, word in words.items() if word in what)
