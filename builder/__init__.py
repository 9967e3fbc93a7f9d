"""Seatsmith: several full graphical Linux environments side by side on one PC, built reproducibly."""

__version__ = "0.1.0"
