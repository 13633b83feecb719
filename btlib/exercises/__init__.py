"""The lessons' exercises: `@exercise(name)`, `reveal(name)`, and a check for each (floor 4)."""

from btlib.exercises import attacks, backdoor_training, embedding, inflight, lred, neural_cleanse, rivals, stealthy  # noqa: F401  (registers its checks)
from btlib.exercises.core import EXERCISES, WrongAnswer, exercise, get, reveal

__all__ = ["EXERCISES", "WrongAnswer", "exercise", "get", "reveal"]
