"""Which files does a profile put into its image, and what does it ask of mkosi?"""

from pathlib import Path

from builder.profile import Profile
from builder.render.templates import mask_unit, render_tree, template_root
from builder.render.values import image_values

TEXT_LOGINS = 6  # NAutoVTs= of mkosi.extra/usr/lib/seatsmith/roles/host/logind.conf


def render_image(profile: Profile, dest: Path) -> None:
    """Render the profile's in-image files into ``dest``, a tree for mkosi's ExtraTrees= beside mkosi.extra/.

    The result depends on the profile alone. Raises InputError for what cannot be rendered.
    """
    values = image_values(profile)
    render_tree(template_root() / "image", dest, values)
    for user in values["users"]:
        render_tree(template_root() / "user", dest, {"user": user})
    for unit in profile.services.mask:
        mask_unit(dest, unit)
    keep_terminal_free(profile, dest)


def keep_terminal_free(profile: Profile, dest: Path) -> None:
    """Let no host start a text login on an environment's own terminal, be it its own or a container's."""
    if profile.display.vt <= TEXT_LOGINS:
        mask_unit(dest, f"autovt@tty{profile.display.vt}.service")


def mkosi_settings(profile: Profile) -> dict[str, str]:
    """Settings of mkosi's [Content] section by which an image gets its name, language and clock."""
    return {
        "Hostname": profile.hostname or profile.name,
        "Locale": profile.locale,
        "Timezone": profile.timezone,
        "Keymap": profile.keymap,
        "RootPassword": "hashed:!*",  # locked: Arch's filesystem package leaves it open to set
    }
