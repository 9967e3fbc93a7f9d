"""What is a seat? One PC: its disk, its host environment and the environments beside it."""

from builder.seat.load import load_seat, seat_names
from builder.seat.model import Seat
from builder.seat.plan import Plan, make_plan

__all__ = ["Plan", "Seat", "load_seat", "make_plan", "seat_names"]
