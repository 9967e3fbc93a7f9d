"""How does a command give its result: words for people, or JSON for programs?"""

from builder.ui import show

__all__ = ["show"]
