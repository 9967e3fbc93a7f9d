"""How is it said what a container may use of its host's devices?"""

from dataclasses import dataclass

from builder.render.limits import NO_LIMITS, Limits

GPU = "dev-seatsmith-gpu.device"  # named by templates/host/usr/lib/udev/rules.d/72-seatsmith.rules


@dataclass(frozen=True)
class Bind:
    """A file or directory of the host that appears in the container (systemd.nspawn(5), Bind=).

    ``mapped``: user ids are the same numbers on both sides, also in a user namespace.
    """

    source: str
    target: str | None = None
    read_only: bool = False
    mapped: bool = False

    @property
    def words(self) -> str:
        """As systemd.nspawn(5) writes it."""
        words = [self.source, *([self.target or self.source] if self.target or self.mapped else [])]
        return ":".join([*words, *(["idmap"] if self.mapped else [])])


@dataclass(frozen=True)
class DeviceAccess:
    """What a container may use.

    ``allow`` are words of DeviceAllow=; ``wants``, ``after`` and ``requires`` are units of the host, and
    the container starts after the latter two. ``uids``: its user namespace, as PrivateUsers= names it;
    ``limits``: what it may not do even there.
    """

    binds: tuple[Bind, ...]
    allow: tuple[str, ...]
    wants: tuple[str, ...]
    after: tuple[str, ...]
    requires: tuple[str, ...] = ()
    uids: str | None = None
    limits: Limits = NO_LIMITS
