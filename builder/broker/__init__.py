"""Whose keystrokes are these? The host's input broker for environments with ``isolation: strict``.

This package runs on the seat, by the distribution's Python and python-evdev: nothing here may import the
rest of ``builder``. ``router`` decides, and knows no device; ``shapes`` says which virtual devices there
are; ``real``, ``clones`` and ``service`` do the work; ``nodes`` is a program of its own, which makes an
environment's device nodes.
"""
