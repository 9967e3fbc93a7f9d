"""Which package sets does a profile ask for?"""

from configparser import ConfigParser
from importlib import resources

import yaml

from builder.profile import Profile
from builder.profile.model import AudioServer, DisplayServer
from builder.project import Project
from builder.sources import Source


def package_sets(distribution: str) -> dict[str, list[str]]:
    """The named sets of a distribution, from its data file beside this module."""
    text = resources.files("builder.distro").joinpath(f"{distribution}-packages.yaml").read_text()
    sets: dict[str, list[str]] = yaml.safe_load(text)
    return sets


def set_names(profile: Profile) -> list[str]:
    """A bootable environment may be a host, so it carries the host's half of the sound set-up as well."""
    names = ["base", "wayland" if profile.display.server is DisplayServer.WAYLAND else "x11"]
    if profile.audio.server is not AudioServer.NONE:
        names.append(f"{profile.audio.server}-{'host' if profile.bootable else 'client'}")
    if profile.bootable:
        names.append("bootable")
    return names


def wanted_packages(profile: Profile, source: Source = Source.STANDIN) -> list[str]:
    """Sorted names: the sets of the profile, plus what it adds, minus what it removes.

    A set may have a part, ``NAME-upstream``, that the stand-in does not offer.
    """
    sets = package_sets(profile.distribution)
    wanted = set_names(profile)
    if source is Source.UPSTREAM:
        wanted += [part for s in wanted if (part := f"{s}-{source}") in sets]
    names = {name for s in wanted for name in sets[s]} | set(profile.packages.add)
    return sorted(names - set(profile.packages.remove))


def initrd_packages(profile: Profile, project: Project) -> list[str]:
    """What mkosi installs into the initrd, from the settings of that image."""
    conf = project.root / f"mkosi.images/initrd/mkosi.conf.d/{profile.distribution}.conf"
    settings = ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    settings.optionxform = str  # type: ignore[assignment,method-assign]
    settings.read(conf)
    return sorted(settings.get("Content", "Packages", fallback="").split())
