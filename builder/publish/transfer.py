"""What do all steps of a pull share: from where, which release, and what the seat has already?"""

from dataclasses import dataclass
from pathlib import Path

from builder import ui
from builder.publish.fetch import Site
from builder.publish.index import Delta, Release
from builder.tools import Tools


@dataclass(frozen=True)
class Transfer:
    """A release of ``name`` on its way from a site; ``current`` is a directory with an older one, if any."""

    site: Site
    release: Release
    name: str
    current: Path | None
    meter: ui.Meter
    tools: Tools

    @property
    def base(self) -> str:
        """Where the release's own files are on the site."""
        return f"{self.name}/{self.release.version}"

    def fetch_patch(self, patch: Delta, target: Path) -> None:
        """Fetch a patch from an older release. Raises MachineError or TrustError."""
        self.site.download(
            f"{self.name}/extra/{patch.file}",
            target,
            sha256=patch.sha256,
            size=patch.size,
            limit=patch.size,
            meter=self.meter,
        )
