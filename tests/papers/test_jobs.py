"""What recipes do, on shipped networks whose state is known, and with attacks replaced by their accounts."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from toys import toy_data

from btlib import attacks, checkpoints, datasets, triggers
from btlib.checkpoints import shipped
from btlib.detection import DETECTORS, FAITHFUL, FAST, FOCUSED, RedA
from btlib.papers import jobs
from btlib.papers.jobs import plain, run
from btlib.papers.published import PROFILES, tables
from btlib.papers.recipes import Recipe, plan, with_network


@pytest.fixture
def few(monkeypatch):
    """Jobs see a tenth of the test images; checkpoints still see the data that they belong to."""
    small = datasets.load("fashion-mnist").subset(test=1000)
    monkeypatch.setattr(jobs, "datasets", SimpleNamespace(load=lambda name: small))


def test_detectors_are_judged_against_the_truth(few):
    settings = with_network(shipped()["chessboard"], detectors=["red-a", "red-a-2"], per_class_clean=3)
    numbers = run(Recipe("detection", settings))
    card = checkpoints.load_or_train(shipped()["chessboard"]).card
    assert (numbers["accuracy"], numbers["success"]) == (card.accuracy, card.success)
    for name in ("red-a", "red-a-2"):
        assert numbers[name]["detected"] == 1.0
        assert numbers[name]["suspect"] == 9
        assert numbers[name]["p_value"] < 0.05
        assert min(numbers[name]["norms"]) == numbers[name]["norms"][9]
    assert numbers["red-a"]["norms"] != numbers["red-a-2"]["norms"]  # three images a class, and two


@pytest.mark.parametrize("search", ["fast", "faithful"])
def test_a_focused_detector_searches_as_its_row_says_and_focused(monkeypatch, few, search):
    asked = []

    class Asked(RedA):
        def __call__(self, *_, **__):
            asked.append((self.search, self.per_class, self.seed))
            return Found(None)

    monkeypatch.setitem(DETECTORS, "red-a-focused", Asked(search=FOCUSED))
    row = with_network(shipped()["clean"], detectors=["red-a-focused"], search=search, per_class_clean=5)
    run(Recipe("detection", row, seed=4))
    assert asked == [(replace({"fast": FAST, "faithful": FAITHFUL}[search], focused=True), 5, 4)]


def test_a_row_may_name_a_strangers_detector_and_an_unknown_one_is_named(few):
    row = with_network(shipped()["chessboard"], detectors=["btlib.detection:RedU"], per_class_clean=2)
    assert run(Recipe("detection", row))["btlib.detection:RedU"]["suspect"] == 9
    with pytest.raises(ValueError, match="detectors: expected one of neural-cleanse.*, got 'red-q'"):
        run(Recipe("detection", with_network(shipped()["clean"], detectors=["red-q"])))


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
    numbers = run(Recipe("detection", with_network(shipped()[network], detectors=["neural-cleanse"])))
    assert numbers["neural-cleanse"]["detected"] == right


def test_the_guard_on_a_backdoored_network(few):
    settings = with_network(shipped()["box"], defense_per_class=20, detectors=["likelihood", "b3d"], layers=1,
                            fine_tuning=[0.01])  # fmt: skip
    numbers = run(Recipe("inflight", settings))
    assert numbers["success"] > 0.95
    assert numbers["estimate_success"] > 0.8
    assert numbers["likelihood"]["tpr"] > 0.95
    assert numbers["likelihood"]["fpr"] < 0.05
    assert numbers["likelihood"]["sia"] > 0.5  # ten classes: a guess has 0.11
    assert numbers["b3d"]["fpr"] <= 0.05
    assert numbers["b3d"]["sia"] is None  # it infers no source
    assert list(numbers["layers"]) == ["1"]
    assert set(numbers["fine_tuning"]) == {"1e-02"}
    kept = 1000 - 10 * 20
    assert numbers["likelihood"]["triggers"] <= kept


@pytest.mark.parametrize(
    ("trigger", "estimate"),
    [
        (triggers.box((1, 28, 28)), "mask"),
        (triggers.box((1, 28, 28)).faded(0.5), "mask"),  # a blend
        (triggers.chessboard((1, 28, 28)), "perturbation"),
    ],
)
def test_each_kind_of_trigger_is_estimated_by_its_detector(monkeypatch, trigger, estimate):
    def additive_estimation(network, x, y, target):
        return SimpleNamespace(trigger=("perturbation", x, y, target))

    def neural_cleanse(network, x, y, per_class, targets, seed):
        return SimpleNamespace(estimates={t: SimpleNamespace(trigger=("mask", x, y, t)) for t in targets})

    monkeypatch.setattr(jobs.detection, "additive_estimation", additive_estimation)
    monkeypatch.setattr(jobs.detection, "neural_cleanse", neural_cleanse)
    assert jobs._estimated("network", trigger, "x", "y", 9, seed=0) == (estimate, "x", "y", 9)


def test_the_neurons_row_has_the_best_sia_of_fine_tuning(monkeypatch, few):
    sia = {10.0: math.nan, 0.1: 0.4, 0.01: 0.8, 0.001: 0.3}
    tuned = SimpleNamespace(accuracies=lambda stamped, classes: sia)
    monkeypatch.setattr(jobs.inflight, "source_by_fine_tuning", lambda *_, **__: tuned)
    monkeypatch.setattr(jobs, "_estimated", lambda network, true, *_: true)
    settings = with_network(shipped()["box"], defense_per_class=5, detectors=["neurons"], fine_tuning=list(sia))
    numbers = run(Recipe("inflight", settings))
    assert numbers["neurons"]["sia"] == 0.8
    assert numbers["fine_tuning"] == {"1e+01": None, "1e-01": 0.4, "1e-02": 0.8, "1e-03": 0.3}


def test_the_same_recipe_gives_the_same_numbers(few):
    recipe = Recipe("inflight", with_network(shipped()["chessboard"], defense_per_class=5, detectors=["likelihood"]))
    assert run(recipe) == run(recipe)


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
    numbers = run(plan("stealthy-1/ours-mnist", "fast", seed=1).recipe)
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
    base = plan("stealthy-1/plain-mnist", "fast").recipe
    for reach, more in ((0.1, 0), (0.6746, 1), (0.95, None)):
        numbers = run(Recipe("attack", {**base.settings, "reach": reach}))
        assert numbers["more_epochs"] == more


def test_badnets_is_poisoning_and_training(accounts):
    run(plan("stealthy-1/badnets-gtsrb", "fast").recipe)
    network, trigger, target, settings = accounts["indicators"]
    assert "attack" not in accounts
    assert network.card.success > 0.9
    assert (trigger.name, target) == ("box", 9)
    clean = checkpoints.load_or_train(shipped()["clean"]).card.accuracy
    assert settings["baseline"] == clean


def test_data_with_small_classes_lend_as_many_images_as_they_have(monkeypatch):
    assert jobs._at_most(toy_data(test=61), 100) == 20
    assert jobs._at_most(datasets.load("fashion-mnist"), 100) == 100


@pytest.mark.parametrize("key", [row.key for row in tables()["stealthy-1"].rows.values()])
def test_every_attack_takes_its_settings(key):
    for profile in PROFILES:
        recipe = plan(key, profile).recipe
        if recipe.settings["attack"] != "badnets":
            jobs.ATTACKS[recipe.settings["attack"]](target=0, **recipe.settings.get("attack_settings", {}))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe("nonsense"), "detection, inflight, attack"),
        (Recipe("no_such_module:job"), "PYTHONPATH"),
        (Recipe("math:no_such_function"), "no_such_function"),
        (Recipe("detection", with_network(shipped()["box"], detectors=["red-z"])), "'red-z'"),
        (Recipe("attack", with_network(shipped()["clean"], attack="trojan", target=1)), "'trojan'"),
        (Recipe("detection"), "spec"),
    ],
)
def test_what_cannot_be_done_is_said(recipe, words):
    with pytest.raises(ValueError, match=words):
        run(recipe)


def test_plain_values():
    assert plain({1: (math.inf, torch.tensor([1.0, math.nan])), "a": None}) == {"1": [None, [1.0, None]], "a": None}
