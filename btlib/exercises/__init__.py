"""The lessons' exercises: `@exercise(name)`, `reveal(name)`, and a check for each (floor 6)."""

from btlib.exercises import (  # noqa: F401  (registers its checks)
    arms_race,
    attacks,
    backdoor_training,
    capstone,
    embedding,
    inflight,
    lred,
    lred_audit,
    neural_cleanse,
    posted,
    repair,
    rivals,
    stealthy,
    tables,
)
from btlib.exercises.core import EXERCISES, Outcome, WrongAnswer, exercise, get, judge, reveal

__all__ = ["EXERCISES", "Outcome", "WrongAnswer", "exercise", "get", "judge", "reveal"]
