"""Which names does the shell offer (docs: ``seatsmith --install-completion``) where one is wanted?"""

from builder.errors import SeatsmithError
from builder.project import find_project

SOURCES = ("auto", "upstream", "standin")


def complete_profile(incomplete: str) -> list[str]:
    return files_named(incomplete, "")


def complete_seat(incomplete: str) -> list[str]:
    return files_named(incomplete, "seats")


def complete_source(incomplete: str) -> list[str]:
    return [source for source in SOURCES if source.startswith(incomplete)]


def files_named(incomplete: str, folder: str) -> list[str]:
    """Names of the files in a folder of profiles/; parts, which begin with '_', are no profiles."""
    try:
        place = find_project().profiles / folder
    except SeatsmithError:
        return []
    return sorted(p.stem for p in place.glob("[!_.]*.yaml") if p.stem.startswith(incomplete))
