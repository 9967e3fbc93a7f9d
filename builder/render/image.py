"""Which files does a profile put into its image, and what does it ask of mkosi?"""

from pathlib import Path

from builder.errors import InputError
from builder.profile import Profile
from builder.profile.model import DisplayServer
from builder.render.templates import render_tree, template_root
from builder.render.values import image_values


def render_image(profile: Profile, dest: Path) -> None:
    """Render the profile's in-image files into ``dest``, a tree for mkosi's ExtraTrees= beside mkosi.extra/.

    The result depends on the profile alone. Raises InputError for what cannot be rendered.
    """
    if profile.display.server is not DisplayServer.X11:
        raise InputError(
            f"profile {profile.name}: display.server: {profile.display.server} cannot be rendered yet",
            hint="write display.server: x11",
        )
    values = image_values(profile)
    dest.mkdir(parents=True, exist_ok=True)
    render_tree(template_root() / "image", dest, values)
    for user in values["users"]:
        render_tree(template_root() / "user", dest, {"user": user})
    for unit in profile.services.mask:
        mask(dest, unit)


def mask(dest: Path, unit: str) -> None:
    """Make a unit unstartable: a link to /dev/null in /etc/systemd/system (systemd.unit(5))."""
    link = dest / "etc/systemd/system" / unit
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to("/dev/null")


def mkosi_settings(profile: Profile) -> dict[str, str]:
    """Settings of mkosi's [Content] section by which an image gets its name, language and clock."""
    return {
        "Hostname": profile.hostname or profile.name,
        "Locale": profile.locale,
        "Timezone": profile.timezone,
        "Keymap": profile.keymap,
        "RootPassword": "hashed:!*",  # locked: Arch's filesystem package leaves it open to set
    }
