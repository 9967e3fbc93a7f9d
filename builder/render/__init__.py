"""Which files follow from a profile: in its image, in the root of its host, and on a seat's disk?"""

from builder.render.bundle import Volume, render_host_bundle
from builder.render.host import Container, HostDisk, render_container, render_host, sound_user
from builder.render.image import mkosi_settings, render_image

__all__ = [
    "Container",
    "HostDisk",
    "Volume",
    "mkosi_settings",
    "render_container",
    "render_host",
    "render_host_bundle",
    "render_image",
    "sound_user",
]
