"""How does a command give its result: words for people, or JSON for programs?"""

import json
from typing import Any


def show(value: Any, text: str, *, as_json: bool) -> None:
    """Print ``value`` as JSON on stdout, or ``text``."""
    print(json.dumps(value, indent=2, default=str, ensure_ascii=False) if as_json else text)
