"""What is there to install from when no mirror can be reached? (docs/standin.md)"""

from builder.standin.mirror import Mirror, ensure_mirror
from builder.standin.server import serve

__all__ = ["Mirror", "ensure_mirror", "serve"]
