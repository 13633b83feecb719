"""What measurements do, on shipped networks whose state is known, and with attacks replaced by their accounts."""

import math
from dataclasses import replace

import pytest
import torch
from toys import TARGET, hand_set, lit_pixels, toy_data

from btlib import attacks, checkpoints, datasets, metrics, triggers
from btlib.checkpoints import shipped
from btlib.detection import DETECTORS, FAITHFUL, FAST, FOCUSED, RedA
from btlib.papers import jobs
from btlib.papers.jobs import plain, run
from btlib.papers.measurements import Measurement, plan, with_network
from btlib.papers.published import PROFILES, tables


def test_detectors_are_judged_against_the_truth():
    settings = with_network(shipped()["chessboard"], detectors=["red-a", "red-a-2"], per_class_clean=3)
    numbers = run(Measurement("detection", settings))
    card = checkpoints.load_or_train(shipped()["chessboard"]).card
    assert (numbers["accuracy"], numbers["success"]) == (card.accuracy, card.success)
    for name in ("red-a", "red-a-2"):
        assert numbers[name]["detected"] == 1.0
        assert numbers[name]["suspect"] == 9
        assert numbers[name]["p_value"] < 0.05
        assert min(numbers[name]["norms"]) == numbers[name]["norms"][9]
    assert numbers["red-a"]["norms"] != numbers["red-a-2"]["norms"]  # three images a class, and two


@pytest.mark.parametrize("search", ["fast", "faithful"])
def test_a_focused_detector_searches_as_its_row_says_and_focused(monkeypatch, search):
    asked = []

    class Asked(RedA):
        def __call__(self, *_, **__):
            asked.append((self.search, self.per_class, self.seed))
            return Found(None)

    monkeypatch.setitem(DETECTORS, "red-a-focused", Asked(search=FOCUSED))
    row = with_network(shipped()["clean"], detectors=["red-a-focused"], search=search, per_class_clean=5)
    run(Measurement("detection", row, seed=1))
    assert asked == [(replace({"fast": FAST, "faithful": FAITHFUL}[search], focused=True), 5, 1)]


def test_a_row_may_name_a_strangers_detector_and_an_unknown_one_is_named():
    row = with_network(shipped()["chessboard"], detectors=["btlib.detection:RedU"], per_class_clean=2)
    assert run(Measurement("detection", row))["btlib.detection:RedU"]["suspect"] == 9
    with pytest.raises(ValueError, match="detectors: expected one of neural-cleanse.*, got 'red-q'"):
        run(Measurement("detection", with_network(shipped()["clean"], detectors=["red-q"])))


class Found:
    """A detection that says what it is told."""

    def __init__(self, target):
        self.target, self.suspect, self.seconds, self.warnings, self.norms = target, 3, 1.0, (), torch.ones(10)
        self.p_value = self.log_p_value = self.calibrated_p_value = 0.5
        self.anomaly_index = torch.zeros(10)
        self.estimates = {3: type("E", (), {"success": 1.0, "sources": lambda self: (1,)})()}

    def verdict(self):
        return type("V", (), {"attacked": self.target is not None, "target": self.target})()


@pytest.mark.parametrize(
    ("network", "said", "right"),
    [("box", 9, 1.0), ("box", 3, 0.0), ("box", None, 0.0), ("clean", None, 1.0), ("clean", 9, 0.0)],
)
def test_a_detection_needs_the_right_target_and_silence_on_clean_networks(monkeypatch, network, said, right):
    monkeypatch.setitem(DETECTORS, "neural-cleanse", lambda *_: Found(said))
    numbers = run(Measurement("detection", with_network(shipped()[network], detectors=["neural-cleanse"])))
    assert numbers["neural-cleanse"]["detected"] == right


def test_the_guard_on_a_backdoored_network():
    settings = with_network(shipped()["box"], defense_per_class=20, detectors=["likelihood", "b3d", "neurons"],
                            layers=1, fine_tuning=[0.01])  # fmt: skip
    numbers = run(Measurement("inflight", settings))
    assert numbers["success"] > 0.95
    assert numbers["estimate_success"] > 0.8
    assert numbers["likelihood"]["tpr"] > 0.95
    assert numbers["likelihood"]["fpr"] < 0.05
    assert numbers["likelihood"]["sia"] > 0.5  # ten classes: a guess has 0.11
    assert numbers["b3d"]["fpr"] <= 0.05
    assert numbers["b3d"]["sia"] is None  # it infers no source
    assert list(numbers["layers"]) == ["1"]
    assert set(numbers["fine_tuning"]) == {"1e-02"}
    assert numbers["neurons"]["sia"] == numbers["fine_tuning"]["1e-02"]
    kept = 10_000 - 10 * 20
    assert numbers["likelihood"]["triggers"] <= kept


@pytest.mark.parametrize(
    ("trigger", "estimate"),
    [
        (triggers.box((1, 8, 8)), "blend"),  # by a mask
        (triggers.box((1, 8, 8)).faded(0.5), "blend"),
        (triggers.chessboard((1, 8, 8)), "additive"),  # by a perturbation
    ],
)
def test_each_kind_of_trigger_is_estimated_by_its_detector(trigger, estimate):
    x, y = lit_pixels(5)
    found = jobs._estimated(hand_set(10.0), trigger, x, y, TARGET, seed=0)
    assert found.kind == estimate
    assert metrics.attack_success_rate(hand_set(10.0), found, x, y, TARGET) > 0.8


def test_the_best_of_several_rates_is_the_largest_number():
    assert jobs._best([math.nan, 0.4, 0.8, 0.3]) == 0.8
    assert jobs._best([math.nan]) is jobs._best([]) is None


def test_the_same_recipe_gives_the_same_numbers():
    measurement = Measurement(
        "inflight", with_network(shipped()["chessboard"], defense_per_class=5, detectors=["likelihood"])
    )
    assert run(measurement) == run(measurement)


def test_a_rivals_threshold_is_the_best_at_five_percent():
    from btlib.inflight import InFlightRates, roc

    clean, triggers = torch.arange(100.0), torch.cat([torch.full((60,), 97.5), torch.full((40,), -1.0)])
    rates = InFlightRates(0.1, 0.2, 0.3, 0.4, roc(clean, triggers), 100, 100)
    assert jobs._rates(rates, own_threshold=True)["tpr"] == 0.1
    best = jobs._rates(rates, own_threshold=False)
    assert best["tpr"] == pytest.approx(0.6)
    assert best["fpr"] == pytest.approx(0.02)  # 98 and 99 lie above 97.5


@pytest.fixture
def accounts(monkeypatch):
    """Attack and indicators that only say what they were asked."""
    asked = {}
    history = ({"asr": 0.2, "cbma": math.nan}, {"asr": 0.7, "cbma": 0.9}, {"asr": 0.8, "cbma": 0.9})

    def attack(spec, **settings):
        asked["attack"] = spec, settings
        network = checkpoints.load_or_train(spec.start)
        return attacks.AttackResult(network, "trigger", spec.recipe.target, 0.9, history, spec.recipe, spec.start.seed)

    def indicators(network, trigger, data, target, **settings):
        asked["indicators"] = network, trigger, target, settings
        return attacks.Indicators(0.9, settings["baseline"], 0.99, 40.0, 0.9, 0.8, 1.0, None, 20.0, 30.0, 1.1, 1.0)

    monkeypatch.setattr(attacks, "load_or_run", attack)
    monkeypatch.setattr(attacks, "indicators", indicators)
    return asked


def test_an_attack_is_run_as_the_row_says(accounts):
    numbers = run(plan("stealthy-1/ours-mnist", "fast", seed=1).measurement)
    spec, settings = accounts["attack"]
    assert (spec.recipe.target, spec.recipe.adversarial, spec.recipe.epochs) == (8, True, 2)
    assert spec.start == shipped()["clean-1"]  # it starts from a clean network
    assert settings["device"] == "cpu"
    network, *rest = accounts["indicators"][:3]
    assert network.card.success is None
    assert rest == ["trigger", 8]
    assert accounts["indicators"][3]["baseline"] == numbers["baseline"] == network.card.accuracy
    assert numbers["psnr"] == 40.0
    assert numbers["first_asr"] == 0.2
    assert numbers["history"][0]["cbma"] is None


def test_epochs_until_an_asr(accounts):
    base = plan("stealthy-1/plain-mnist", "fast").measurement
    for reach, more in ((0.1, 0), (0.6746, 1), (0.95, None)):
        numbers = run(Measurement("attack", {**base.settings, "reach": reach}))
        assert numbers["more_epochs"] == more


def test_badnets_is_poisoning_and_training(accounts):
    run(plan("stealthy-1/badnets-gtsrb", "fast").measurement)
    network, trigger, target, settings = accounts["indicators"]
    assert "attack" not in accounts
    assert network.card.success > 0.9
    assert (trigger.name, target) == ("box", 9)
    clean = checkpoints.load_or_train(shipped()["clean"]).card.accuracy
    assert settings["baseline"] == clean


def test_data_with_small_classes_lend_as_many_images_as_they_have():
    assert jobs._at_most(toy_data(test=61), 100) == 20
    assert jobs._at_most(datasets.load("fashion-mnist"), 100) == 100


@pytest.mark.parametrize("key", [row.key for row in tables()["stealthy-1"].rows.values()])
def test_every_attack_takes_its_settings(key):
    for profile in PROFILES:
        measurement = plan(key, profile).measurement
        if measurement.settings["attack"] != "badnets":
            attacks.ATTACKS[measurement.settings["attack"]](target=0, **measurement.settings.get("attack_settings", {}))


@pytest.mark.parametrize(
    ("measurement", "words"),
    [
        (Measurement("nonsense"), "detection, inflight, attack"),
        (Measurement("no_such_module:job"), "kind: .*No module named .no_such_module.*check its folder"),
        (Measurement("math:no_such_function"), "no_such_function"),
        (Measurement("detection", with_network(shipped()["box"], detectors=["red-z"])), "'red-z'"),
        (Measurement("inflight", with_network(shipped()["box"], detectors=["b4d"])), "'b4d'"),
        (Measurement("attack", with_network(shipped()["clean"], attack="trojan", target=1)), "'trojan'"),
        (Measurement("detection"), "spec"),
    ],
)
def test_what_cannot_be_done_is_said(measurement, words):
    with pytest.raises(ValueError, match=words):
        run(measurement)


def test_plain_values():
    assert plain({1: (math.inf, torch.tensor([1.0, math.nan])), "a": None}) == {"1": [None, [1.0, None]], "a": None}


def test_one_rows_networks_are_of_one_precision_wherever_they_are_made():
    planned = plan("stealthy-1/ours-mnist").measurement
    assert [made.recipe.precision for made in jobs.networks(planned)] == ["float32", "float32"]
    told = {**planned.settings, "attack_settings": {**planned.settings["attack_settings"], "precision": "auto"}}
    assert jobs.networks(replace(planned, settings=told))[1].recipe.precision == "auto"
