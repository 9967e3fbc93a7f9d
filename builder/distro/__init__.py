"""Which distributions can an image be made of?"""

from builder.distro.base import Backend
from builder.errors import InputError
from builder.profile.model import Distribution


def backend(distribution: Distribution) -> Backend:
    """The backend of a distribution.

    Raises InputError for one that images cannot be built of yet.
    """
    match distribution:
        case Distribution.ARCH:
            from builder.distro.arch import Arch

            return Arch()
        case Distribution.GENTOO:
            raise InputError("Gentoo images cannot be built yet", hint="use distribution: arch")
