"""How does a profile come from YAML files, with what it extends?"""

import yaml

from builder.errors import InputError
from builder.profile.model import Profile
from builder.project import Project


def profile_names(project: Project) -> list[str]:
    return sorted(p.stem for p in project.profiles.glob("*.yaml") if not p.name.startswith("_"))


def load_profile(project: Project, name: str) -> Profile:
    """Load and check one profile. Raises InputError naming file, line and column."""
    path = project.profiles / f"{name}.yaml"
    if not path.is_file():
        raise InputError(f"there is no profile {name!r} ({path})")
    data = yaml.safe_load(path.read_text())
    base = data.pop("extends", None)
    if base:
        data = {**yaml.safe_load((project.profiles / f"{base}.yaml").read_text()), **data}
    return Profile(**{"name": name, **data})
