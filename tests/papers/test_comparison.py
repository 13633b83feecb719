"""Ours beside published: means, spreads and the rule of agreement, from results made up for the test."""

from dataclasses import replace

import numpy as np
import pytest

from btlib.papers import store
from btlib.papers.comparison import Comparison, agree, compare, repeatable, standing
from btlib.papers.measurements import plan
from btlib.papers.published import parse, row, table
from btlib.papers.store import Result


def put(folder, key: str, numbers: dict, seed: int = 0, profile: str = "full") -> None:
    planned = plan(key, profile, seed)
    store.write(folder, Result(planned.home, planned.measurement, numbers, 10.0 * (seed + 1), 1.0, "cpu", {}, ""))


def test_mean_and_spread_over_seeds(tmp_path):
    for seed, accuracy in ((0, 0.90), (3, 0.94)):
        put(tmp_path, "lred-2/g-1", {"accuracy": accuracy, "success": None, "red-a": {"detected": 1.0}}, seed)
    found = {(c.row.name, c.column): c for c in compare("lred-1", "full", tmp_path)}
    one = found["g-1", "accuracy"]
    assert (one.ours, one.seeds, one.published.value) == (pytest.approx(0.92), 2, 0.936)
    assert one.spread == pytest.approx(0.04 / 2**0.5)
    assert one.difference == pytest.approx(-0.016)
    assert one.agrees is False  # the paper's ± is 0.002
    assert "CIFAR-10 from JPEG" in one.differs  # the paper's pictures all the same
    stand_ins = {(name, profile): {c.stand_in for c in compare(name, profile, tmp_path)} for name, profile in [
        ("lred-1", "full"), ("inflight-2", "full"), ("inflight-4", "full"), ("lred-1", "fast"), ("inflight-2", "fast"),
    ]}  # fmt: skip
    expected = {"full": {False}, "fast": {False, True}}  # Fashion-MNIST, or not in this profile
    assert stand_ins == {told: expected[told[1]] for told in stand_ins}
    nothing = found["g-1", "success"]
    assert (nothing.ours, nothing.seeds, nothing.agrees, nothing.difference) == (None, 0, None, None)
    assert nothing.runs == 2  # measured, and there is no such number
    assert (found["l-1", "accuracy"].ours, found["l-1", "accuracy"].runs) == (None, 0)
    # another table shows the same networks
    detected = {(c.row.name, c.column): c for c in compare("lred-2", "full", tmp_path)}["g-1", "red-a.detected"]
    assert (detected.ours, detected.spread, detected.agrees) == (1.0, 0.0, True)


def test_of_p_values_the_median_counts(tmp_path):
    for seed, p_value in enumerate((5e-5, 0.16, 5e-4)):  # mean .054
        numbers = {"success": 0.9, "accuracy": 0.9, "red-a": {"p_value": p_value}}
        put(tmp_path, "lred-4/fmnist-attacked", numbers, seed)
    one = next(c for c in compare("lred-4", "full", tmp_path) if c.row.name == "fmnist-attacked")
    assert (one.ours, one.seeds, one.agrees) == (5e-4, 3, True)


def test_no_detector_is_judged_by_an_attack_that_did_not_take(tmp_path):
    for seed, (success, p_value) in enumerate([(0.95, 0.01), (0.1, 0.9), (0.9, 0.03)]):
        numbers = {"success": success, "accuracy": success, "red-a": {"p_value": p_value}}
        put(tmp_path, "lred-4/gtsrb-attacked", numbers, seed)
    (found,) = (c for c in compare("lred-4", "full", tmp_path) if c.row.name == "gtsrb-attacked")
    assert (found.ours, found.seeds, found.agrees) == (pytest.approx(0.02), 2, True)
    assert found.differs.endswith("1 of 3 attacks did not take: no detector is judged by it")
    assert found.runs == 3
    # the attack's own success is that of all
    own = [c for c in compare("lred-6", "full", tmp_path) if c.row.name == "gtsrb-attacked"]
    assert {(c.column, round(c.ours, 4), c.seeds) for c in own} == {("success", 0.65, 3), ("accuracy", 0.65, 3)}
    assert standing(row("lred-4/gtsrb-attacked"), "full", store.every(tmp_path)).done == 3  # they were run, though


def test_one_more_network_would_lie_in_the_interval(tmp_path):
    """Against the t-distribution drawn: of normal samples, the next one is inside 95 times of 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for draws in rng.normal(0.8, 0.02, (4000, 4)):
        made = Comparison(row("lred-2/g-1"), "accuracy", parse("0.9"), tuple(draws[:3]), 3, "", False)
        low, high = made.interval
        inside += low < draws[3] < high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)  # three standard errors
    assert replace(made, each=made.each[:2]).interval is None
    assert replace(made, column="red-a.p_value").interval is None


def test_what_a_perfect_reproduction_would_score():
    """Of .90, .90 and .96 two are .03 from the mean of the others, the last .06; ± .04 forgives the two."""
    made = Comparison(row("lred-2/g-1"), "accuracy", parse("0.5"), (0.90, 0.90, 0.96), 3, "", False)
    assert repeatable([made]) == (0, 3)
    assert repeatable([made, replace(made, published=parse("50 ± 4 %"))]) == (2, 6)
    assert repeatable([replace(made, column="red-a.p_value", each=(0.01, 0.02, 0.2))]) == (0, 3)
    assert repeatable([replace(made, published=parse("> 0.9"), each=(0.91, 0.92, 0.92))]) == (3, 3)
    assert repeatable([replace(made, each=(0.9, 0.9)), replace(made, column="red-a.seconds")]) == (0, 0)


def test_results_of_another_profile_do_not_count(tmp_path):
    put(tmp_path, "lred-2/g-1", {"accuracy": 0.9}, profile="fast")
    assert all(c.ours is None for c in compare("lred-1", "full", tmp_path))


@pytest.mark.parametrize(
    ("column", "printed", "ours", "says"),
    [
        ("likelihood.tpr", "0.98", 0.96, True), ("likelihood.tpr", "0.98", 0.9599, False),
        ("success", "92.1 ± 1.9 %", 0.94, True), ("success", "92.1 ± 1.9 %", 0.9401, False),
        ("asr", "> 90.00 %", 0.91, True), ("asr", "> 90.00 %", 0.9, False),
        ("red-a.p_value", "u.f.", 0.049, True), ("red-a.p_value", "0.300", 0.049, False),
        ("anomaly_index", "4.51", 2.1, True), ("anomaly_index", "0.83", -3.0, True),
        ("anomaly_index", "4.51", 1.9, False), ("anomaly_index", "< 2", 1.9, True),
        ("mask_norm", "≈ 90", 90.0, None), ("red-a.seconds", "562", 562.0, None),
        ("success", "NA", 0.9, None), ("success", "0.9", None, None),
    ],
)  # fmt: skip
def test_the_rule_of_agreement(column, printed, ours, says):
    assert agree(column, parse(printed), ours) is says


def test_where_a_row_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("BTLIB_DATA", str(tmp_path / "data"))
    known: dict = {}
    states = {key: standing(row(key), profile, known).state for key, profile in [
        ("inflight-4/fmnist-wb", "full"), ("inflight-4/mnist-wb", "full"), ("inflight-4/pubfig-sq", "full"),
    ]}  # fmt: skip
    assert list(states.values()) == ["not run", "needs data", "not in this profile"]
    assert "PubFig" in standing(row("inflight-4/pubfig-sq"), "full", known).note
    (tmp_path / "data" / "cifar-10-batches-py").mkdir(parents=True)
    assert standing(row("lred-2/g-1"), "paper", known).state == "needs GPU"
    assert standing(row("lred-2/g-1"), "paper", known, gpu=True).state == "not run"


def test_a_measured_row_is_done_and_knows_its_cost(tmp_path):
    for seed in (0, 1):
        put(tmp_path, "inflight-4/fmnist-wb", {}, seed)
    found = standing(table("inflight-4").rows["fmnist-wb"], "full", store.every(tmp_path))
    assert (found.state, found.done, found.seconds) == ("done", 2, 15.0)
