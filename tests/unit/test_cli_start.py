"""Does ``seatsmith --help`` stay quick? It loads nothing that only some command needs."""

import subprocess
import sys

HEAVY = {"httpx", "jinja2", "numpy", "pydantic", "rich.progress", "yaml", "zstandard", "cryptography"}


def test_help_loads_no_library_that_only_a_command_needs() -> None:
    code = "import sys, builder.cli; print('\\n'.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "builder.cli" in loaded
    assert not loaded & HEAVY


def test_every_command_module_without_an_underscore_adds_commands() -> None:
    import importlib
    import pkgutil

    import builder.cli

    names = [m.name for m in pkgutil.iter_modules(builder.cli.__path__) if "_" not in m.name]
    modules = [importlib.import_module(f"builder.cli.{name}") for name in names if name != "output"]
    assert all(hasattr(module, "register") for module in modules)
