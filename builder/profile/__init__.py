"""What is a profile? The YAML description of one environment, checked and resolved."""

from builder.profile.load import load_profile, profile_names
from builder.profile.model import Profile

__all__ = ["Profile", "load_profile", "profile_names"]
