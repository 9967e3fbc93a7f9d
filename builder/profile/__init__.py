"""What is a profile? The YAML description of one environment, checked and resolved."""

from builder.profile.load import Resolved, load_profile, part_names, profile_names, resolve_profile
from builder.profile.model import Profile

__all__ = ["Profile", "Resolved", "load_profile", "part_names", "profile_names", "resolve_profile"]
