"""Recipes: a hash that stays, and rows that can be run as they say."""

import json
from functools import cache

import pytest

from btlib import checkpoints, papers, triggers
from btlib.checkpoints import Spec
from btlib.datasets import DataSource
from btlib.datasets.readers import Facts
from btlib.papers import measurements
from btlib.papers.measurements import Measurement, Plan, plan, with_network
from btlib.papers.published import PROFILES, tables
from btlib.poisoning import source_classes

PLANS = {
    (row.key, profile): plan(row, profile) for t in tables().values() for row in t.rows.values() for profile in PROFILES
}


@cache
def known(source: DataSource) -> Facts:
    """What is known without the images; a folder of 60,000 is looked through once, not for each of its rows."""
    return source.facts


def test_the_hash_stays():
    """It names results on disk: a change here makes all of them unknown, and must be meant (measurements.VERSION)."""
    assert Measurement("k", {"a": 1}, 2).digest == "b7a9055f45"


def test_equal_measurements_have_equal_hashes_and_others_do_not():
    one = Measurement("k", {"a": (1, 2), "b": {"c": 0.1}}, 3)
    assert one == Measurement("k", {"b": {"c": 0.1}, "a": [1, 2]}, 3)
    others = [Measurement("k", {"a": [1, 2]}, 3), Measurement("l", one.settings, 3), Measurement("k", one.settings, 4)]
    assert one.digest not in {other.digest for other in others}


def test_a_new_version_of_measuring_or_training_makes_new_hashes(monkeypatch):
    before = Measurement("k").digest
    monkeypatch.setattr(measurements, "VERSION", measurements.VERSION + 1)
    assert Measurement("k").digest != before


def test_plain_values_make_the_measurement_again():
    measurement = plan("lred-2/l-3", "paper", 4).measurement
    assert Measurement(**json.loads(json.dumps(measurement.as_json()))) == measurement
    assert measurement.spec.seed == 4


@pytest.mark.parametrize("settings", [{"a": {1, 2}}, {"a": float("nan")}])
def test_settings_are_json(settings):
    with pytest.raises((TypeError, ValueError)):
        Measurement("k", settings)


def test_a_network_of_a_measurement_is_that_of_the_spec():
    spec = Spec(trigger="box", sources=(0, 3), per_class=50, seed=2)
    assert Measurement("k", with_network(spec), seed=2).spec.file_name == spec.file_name


def test_a_measurement_without_a_network_says_so():
    with pytest.raises(ValueError, match="spec"):
        _ = Measurement("mine").spec


def test_every_row_can_be_run_at_paper():
    assert [key for (key, profile), found in PLANS.items() if profile == "paper" and isinstance(found, str)] == []


@pytest.mark.parametrize("key", [k for k, found in PLANS.items() if isinstance(found, Plan)], ids="-".join)
def test_the_attack_of_a_row_is_possible(key):
    measurement = PLANS[key].measurement
    spec = measurement.spec
    shape, classes = known(spec.source).image_shape, known(spec.source).num_classes or 20
    if spec.trigger is not None:
        assert triggers.build(spec.trigger, shape, **spec.trigger_settings).image_shape == shape
        assert source_classes(spec.sources, spec.target, classes)
    assert key[1] != "paper" or PLANS[key].differs == ""
    if key[1] == "full":
        assert not measurement.wants_gpu
        assert spec.source.name != "cifar10"


def test_fast_rows_need_neither_download_nor_training():
    for (_, profile), found in PLANS.items():
        if profile == "fast" and isinstance(found, Plan):
            assert found.measurement.data == DataSource("fashion-mnist")
            assert checkpoints.find(found.measurement.spec) is not None


def test_what_differs_is_said():
    for (key, profile), found in PLANS.items():
        if profile != "paper" and isinstance(found, Plan) and found.measurement != PLANS[key, "paper"].measurement:
            assert found.differs, (key, profile)


def test_settings_are_the_papers():
    l3 = plan("lred-2/l-3", "paper", 1).measurement.spec  # A.4: class 2, sources {1, 5, 6}, 300 images each, 50/255
    assert (l3.target, list(l3.sources), l3.per_class, l3.originals) == (1, [0, 4, 5], 300, "remove")
    assert l3.trigger_settings == {"amplitude": 50 / 255, "seed": 1}
    assert (l3.network, l3.data.name, l3.recipe.epochs, l3.recipe.lr) == ("resnet18", "cifar10", 100, 1e-3)
    mnist = plan("lred-4/mnist-attacked", "paper").measurement  # A.8.1: class 9, sources {5, 7, 10}, 500 images each
    assert (mnist.spec.target, list(mnist.spec.sources), mnist.spec.per_class) == (8, [4, 6, 9], 500)
    assert plan("lred-4/gtsrb-attacked", "paper").measurement.settings["per_class_clean"] == 1  # 4.4
    sp = plan("inflight-2/sp-single", "paper").measurement.spec  # 5.1
    assert (sp.target, list(sp.sources), sp.per_class, sp.trigger_settings) == (9, [0], 1000, {})


def test_tables_share_their_networks():
    assert PLANS["lred-1/g-3", "full"] == PLANS["lred-3/g-3", "full"] == PLANS["lred-2/g-3", "full"]
    assert PLANS["inflight-3/wb-multi", "paper"].home == "inflight-2/wb-multi"


def test_a_place_drawn_by_the_seed_moves():
    first, second = (plan("lred-2/l-1", "full", seed).measurement.spec.make_trigger() for seed in (0, 1))
    assert bool((first.pattern != second.pattern).any())


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="'quick'"):
        plan("lred-2/g-1", "quick")


@pytest.mark.parametrize(("row", "same"), [("with", "ours-gtsrb"), ("without", "plain-gtsrb")])
def test_an_attack_that_two_tables_show_is_run_once(row, same):
    """Figure 5's attacks are Table 1's: a setting changed in one place only would make them two jobs of an hour."""
    assert plan(f"stealthy-fig5/{row}").measurement.digest == plan(f"stealthy-1/{same}").measurement.digest


#: Results of earlier recipes, which no row asks for: fmnist-attacked in lred-4, the others in stealthy-1.
EARLIER = {
    "2ea04c6e67", "c31dda310c", "f4a7c00dc2", "b3ec97a9a6",
    "f3facbaaa0", "b292749f61", "b37eb6a6f5", "8694cd6c6e", "b5d1684443", "fa08888b16", "07b20c06c5", "3bfae9d0e9",
    "7762be36ac", "f4e0b8287b", "27645d3c6c", "de88534fc2", "e5d999b822",
}  # fmt: skip


def test_results_on_disk_keep_their_digests():
    """They are read, made into specs and back without another hash than their files' names; rows find them all."""
    files = sorted(papers.RESULTS.glob("*/*-s*-*.json"))
    planned = {one.measurement.digest for key, profile in PLANS for seed in range(5)
               if isinstance(one := plan(key, profile, seed), Plan)}  # fmt: skip
    unknown = set()
    assert len(files) > 50
    for path in files:
        kept = papers.read(path).measurement
        spec = kept.spec
        rest = {key: value for key, value in kept.settings.items() if key != "spec"}
        again = Measurement(kept.kind, with_network(spec, **rest), kept.seed)
        assert again.digest in path.name
        unknown |= {again.digest} - planned
    assert unknown == EARLIER
