"""Which values do templates see beyond the profile's own: user ids, a colour, X's name of the key map?"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.profile import Profile
from builder.profile.model import DisplayServer, User

FIRST_UID = 1000
FIRST_HUE = 210  # VT7 is blue
GOLDEN_ANGLE = 137.5  # neighbours on the colour wheel stay far apart, however many terminals there are

# Console key maps whose first part is not X's name of the layout: (layout, variant).
# After systemd's kbd-model-map; all others are the part before the first hyphen ("de-latin1" is "de").
XKB = {
    "uk": ("gb", ""),
    "jp106": ("jp", ""),
    "dvorak": ("us", "dvorak"),
    "colemak": ("us", "colemak"),
    "sv-latin1": ("se", ""),
    "cf": ("ca", ""),
    "la-latin1": ("latam", ""),
    "sg": ("ch", "de_nodeadkeys"),
    "sg-latin1": ("ch", "de_nodeadkeys"),
    "de_CH-latin1": ("ch", "de"),
    "fr_CH": ("ch", "fr"),
    "fr_CH-latin1": ("ch", "fr"),
    "de-latin1-nodeadkeys": ("de", "nodeadkeys"),
    "pl2": ("pl", ""),
    "hu101": ("hu", "qwerty"),
    "trq": ("tr", ""),
    "trf": ("tr", "f"),
    "slovene": ("si", ""),
    "croat": ("hr", ""),
    "cz-lat2": ("cz", "qwerty"),
    "cz-qwerty": ("cz", "qwerty"),
    "sk-qwerty": ("sk", "qwerty"),
    "us-acentos": ("us", "intl"),
    "es-dvorak": ("es", "dvorak"),
    "fr-latin9": ("fr", "latin9"),
    "it2": ("it", ""),
    "et": ("ee", ""),
    "ko": ("kr", ""),
    "kazakh": ("kz", ""),
    "khmer": ("kh", ""),
    "tj_alt-UTF8": ("tj", ""),
    "bg_bds-utf8": ("bg", ""),
    "bg_pho-utf8": ("bg", "phonetic"),
    "ro-std": ("ro", "std"),
    "ro-cedilla": ("ro", "cedilla"),
    "ro-std-cedilla": ("ro", "std_cedilla"),
    "sr-cy": ("rs", ""),
    "sr-latin": ("rs", "latin"),
    "lt.baltic": ("lt", ""),
    "lt.l4": ("lt", ""),
    "lv": ("lv", "apostrophe"),
    "lv-tilde": ("lv", "tilde"),
}


@dataclass(frozen=True)
class Layout:
    """A keyboard layout by X's names (xkeyboard-config(7))."""

    layout: str
    variant: str


def image_values(profile: Profile) -> dict[str, Any]:
    """Everything the templates of an image may use."""
    return {
        "name": profile.name,
        "hostname": profile.hostname or profile.name,
        "locale": profile.locale,
        "charset": profile.locale.partition("@")[0].partition(".")[2] or "UTF-8",
        "keymap": profile.keymap,
        "xkb": xkb_layout(profile.keymap),
        "color": terminal_color(profile.display.vt),
        "bootable": profile.bootable,
        "display": profile.display,
        "window_manager": "sway" if profile.display.server is DisplayServer.WAYLAND else "i3",
        "services": {"enable": profile.services.enable, "mask": profile.services.mask},
        "users": with_uids(profile.users),
    }


def with_uids(users: Sequence[User]) -> list[User]:
    """The users, each with a uid: its own, or the next free one from 1000 in the order of the profile."""
    taken = {user.uid for user in users}
    free = (uid for uid in range(FIRST_UID, 60000) if uid not in taken)
    return [user if user.uid is not None else user.model_copy(update={"uid": next(free)}) for user in users]


def terminal_color(vt: int) -> str:
    """A dark colour of the environment's own; terminals are distinct on a seat, and so are these."""
    hue = (FIRST_HUE + GOLDEN_ANGLE * (vt - 7)) % 360
    return "#" + "".join(f"{round(part * 255):02x}" for part in colorsys.hsv_to_rgb(hue / 360, 0.7, 0.4))


def xkb_layout(keymap: str) -> Layout:
    known = XKB.get(keymap)
    return Layout(*known) if known else Layout(keymap.partition("-")[0], "")
