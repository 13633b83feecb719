"""Attacks that need more than a poisoned training set (floor 4); BadNets is `poisoning` + `training`."""

from btlib.attacks import input_aware, invisible, stealthy
from btlib.attacks.attack import Attack, AttackRecipe, run
from btlib.attacks.indicators import Indicators, indicators
from btlib.attacks.memory import ATTACKS, AttackSpec, load_or_run, make_shipped, shipped
from btlib.attacks.outcome import AttackResult
from btlib.attacks.patterns import GeneratedTrigger, MaskedTrigger, attach

__all__ = [
    "ATTACKS", "Attack", "AttackRecipe", "AttackResult", "AttackSpec", "GeneratedTrigger", "Indicators",
    "MaskedTrigger", "attach", "indicators", "input_aware", "invisible", "load_or_run", "make_shipped", "run",
    "shipped", "stealthy",
]  # fmt: skip
