"""Exercises with a known answer, which recurrent cells are measured on: adding, copy, digits, Mackey-Glass."""

from gatewise.tasks.exercises.base import Exercise
from gatewise.tasks.exercises.digits import Digits
from gatewise.tasks.exercises.synthetic import Adding, Copy, MackeyGlass

__all__ = ["Adding", "Copy", "Digits", "Exercise", "MackeyGlass"]
