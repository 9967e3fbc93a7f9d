#!/usr/bin/env python3
"""What does the portage of a stage3 know that emerge does not print?

Runs in a stage3, with its Python and portage; it imports nothing of this package.

    ask_portage.py newer INDEX     lines for package.mask: what is newer than a binhost's packages
    ask_portage.py distfiles CPV…  the files that building each package takes, as JSON: {CPV: [NAME, …]}
    ask_portage.py built CPV…      paragraphs of a binhost's index, as if it had packages of these ebuilds
"""

import json
import sys
from pathlib import Path

import portage


def newer(index: Path) -> list[str]:
    """Masks that keep an ebuild from being taken because it is newer than the binhost's package."""
    found: dict[tuple[str, str], list[str]] = {}
    for paragraph in index.read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if "CPV" in fields:
            slot = fields.get("SLOT", "0").partition("/")[0]
            name = portage.versions.cpv_getkey(fields["CPV"])
            found.setdefault((name, slot), []).append(fields["CPV"])
    return [f">{portage.versions.best(cpvs)}:{slot}" for (_, slot), cpvs in sorted(found.items())]


def distfiles(cpvs: list[str]) -> dict[str, list[str]]:
    ebuilds = portage.db[portage.root]["porttree"].dbapi
    settings = portage.config(clone=portage.settings)
    found = {}
    for cpv in cpvs:
        settings.setcpv(cpv, mydb=ebuilds)
        found[cpv] = sorted(ebuilds.getFetchMap(cpv, useflags=settings["PORTAGE_USE"].split()))
    return found


def built(cpvs: list[str]) -> list[str]:
    ebuilds = portage.db[portage.root]["porttree"].dbapi
    settings = portage.config(clone=portage.settings)
    keys = ("EAPI", "SLOT", "KEYWORDS", "LICENSE", "IUSE", "RDEPEND", "PDEPEND", "IDEPEND", "PROPERTIES")
    found = []
    for cpv in cpvs:
        settings.setcpv(cpv, mydb=ebuilds)
        said = dict(zip(keys, ebuilds.aux_get(cpv, keys), strict=True))
        said |= {"CPV": cpv, "BUILD_ID": "1", "PATH": f"{cpv}-1.gpkg.tar", "SIZE": "1", "SHA1": "0" * 40}
        said |= {"USE": settings["PORTAGE_USE"], "REPO": "gentoo"}
        found.append("".join(f"{key}: {' '.join(value.split())}\n" for key, value in said.items() if value))
    return found


def main() -> None:
    verb, *words = sys.argv[1:]
    if verb == "newer":
        print("\n".join(newer(Path(words[0]))))
    elif verb == "built":
        print("\n".join(built(words)))
    else:
        print(json.dumps(distfiles(words)))


if __name__ == "__main__":
    main()
