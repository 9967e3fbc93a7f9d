"""How are names and paths written in systemd unit names?"""

import string

PLAIN = frozenset(string.ascii_letters + string.digits + ":_.")  # systemd.unit(5), "String escaping"


def unit_name(text: str) -> str:
    """``text`` escaped as ``systemd-escape`` does: ``my-work`` becomes ``my\\x2dwork``."""
    return "".join(
        "-" if c == "/" else c if c in PLAIN and not (c == "." and i == 0) else escaped(c)
        for i, c in enumerate(text)
    )


def path_unit(path: str) -> str:
    """A path as ``systemd-escape --path`` writes it: ``/dev/vg/my-lv`` becomes ``dev-vg-my\\x2dlv``."""
    return unit_name("/".join(part for part in path.split("/") if part)) or "-"


def device_unit(path: str) -> str:
    """The unit of a device node, such as ``dev-mapper-work.device``."""
    return f"{path_unit(path)}.device"


def escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
