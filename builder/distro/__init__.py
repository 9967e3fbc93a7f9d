"""Which distributions can an image be made of?"""

from builder.distro.base import Backend
from builder.profile.model import Distribution


def backend(distribution: Distribution) -> Backend:
    """The backend of a distribution."""
    match distribution:
        case Distribution.ARCH:
            from builder.distro.arch import Arch

            return Arch()
        case Distribution.GENTOO:
            from builder.distro.gentoo.backend import Gentoo

            return Gentoo()
