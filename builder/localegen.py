#!/usr/bin/env python3
"""Which locale does an image still need made? Distributions install few, or none but C.UTF-8.

mkosi runs this file as a finalize script, with the tools tree's Python; it imports nothing of this package.
It reads /etc/locale.conf below $BUILDROOT and has the image's own localedef(1) make that locale. Idempotent.
"""

import os
import re
import subprocess
from pathlib import Path

LANG = r"^LANG=(([a-z]{2,3}_[A-Z]{2})\.UTF-8(@[a-z]+)?)$"


def main() -> None:
    root = Path(os.environ["BUILDROOT"])
    conf = root / "etc/locale.conf"
    asked = re.search(LANG, conf.read_text(encoding="utf-8"), flags=re.M) if conf.is_file() else None
    if asked is None:
        return
    source, made = f"{asked[2]}{asked[3] or ''}", f"{asked[2]}.utf8{asked[3] or ''}"
    locales = root / "usr/lib/locale"
    there = any((locales / name).is_dir() for name in (made, asked[1]))
    able = (root / "usr/share/i18n/locales" / source).is_file() and (root / "usr/bin/localedef").is_file()
    if able and not there:
        locales.mkdir(exist_ok=True)
        # The archive, and links between like files of locales, depend on what was made in which order.
        # A warning is no reason to go without (-c), as with locale-gen; treecheck.py sees what came of it.
        options = ["--no-archive", "--no-hard-links", "-c", "-i", source, "-f", "UTF-8"]
        work, had_work = root / "work", (root / "work").is_dir()
        subprocess.run(["mkosi-chroot", "localedef", *options, f"/usr/lib/locale/{made}"], check=False)
        if work.is_dir() and not had_work:
            work.rmdir()  # where mkosi-chroot mounts; mkosi removes it before finalize scripts, not after


if __name__ == "__main__":
    main()
