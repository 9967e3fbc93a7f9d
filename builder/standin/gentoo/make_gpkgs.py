#!/usr/bin/env python3
"""Which gpkgs (GLEP 78) does portage make of a stream of packages?

Runs inside the workshop, with the workshop's Python and portage; it imports nothing of this package.
Standard input is one tar: for each package CATEGORY/PF/metadata.json, CATEGORY/PF/environment.bz2, then its
files below CATEGORY/PF/image. A line is printed for each finished gpkg, which lies in $PKGDIR under the name
that a binhost gives it. Signed if portage's FEATURES say so.
"""

import json
import multiprocessing
import os
import shutil
import sys
import tarfile
from pathlib import Path

import portage
from portage.gpkg import gpkg

WORK = Path("/tmp/gpkgs")
PROCESSES = 2


def make(place: Path) -> str:
    """Pack one unpacked package; ``place`` is removed."""
    category, pf = place.parent.name, place.name
    metadata = {k: v.encode() + b"\n" for k, v in json.loads((place / "metadata.json").read_text()).items()}
    metadata["environment.bz2"] = (place / "environment.bz2").read_bytes()
    name = portage.versions.catpkgsplit(f"{category}/{pf}")[1]
    final = Path(os.environ["PKGDIR"]) / category / name / f"{pf}-1.gpkg.tar"
    final.parent.mkdir(parents=True, exist_ok=True)
    settings = portage.config(clone=portage.settings)
    gpkg(settings, f"{pf}-1", str(final)).compress(str(place / "image"), metadata)
    shutil.rmtree(place)
    return f"{category}/{pf}"


def main() -> None:
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        jobs = []
        current: Path | None = None
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as stream:
            for member in stream:
                place = WORK.joinpath(*Path(member.name).parts[:2])
                if place != current:
                    if current is not None:
                        jobs.append(pool.apply_async(make, (current,)))
                        while sum(not job.ready() for job in jobs) > 2 * PROCESSES:
                            jobs[-2 * PROCESSES - 1].wait()
                    current = place
                    (place / "image").mkdir(parents=True)
                stream.extract(member, WORK, filter="fully_trusted")
        if current is not None:
            jobs.append(pool.apply_async(make, (current,)))
        for job in jobs:
            print(job.get(), flush=True)


if __name__ == "__main__":
    main()
