"""What a sweep will take, and that it is refused when it can't fit."""

import psutil
import pytest

from btlib.checkpoints import Spec
from btlib.papers import costs
from btlib.papers.costs import Cost, NoRoom, check_room, cost, measured
from btlib.papers.measurements import Measurement, plan, with_network
from btlib.papers.store import Result


def result(measurement: Measurement, seconds: float, memory: float = 1000.0) -> Result:
    return Result("t/r", measurement, {}, seconds, memory, "cpu", {}, "")


def test_what_was_measured_with_other_seeds_is_believed():
    seen = [
        result(plan("lred-2/l-1", "full", seed).measurement, seconds, 9000 + seed)
        for seed, seconds in ((0, 10), (1, 30))
    ]
    unlike = result(plan("lred-2/l-3", "full", 0).measurement, 500, 5000)
    wanted = plan("lred-2/l-1", "full", 2).measurement  # its square is elsewhere; the same measurement for all that
    assert measured(wanted, [*seen, unlike]) == seen
    assert cost(wanted, [*seen, unlike]).seconds == 20
    assert cost(wanted, [*seen, unlike]).memory_mb == pytest.approx(1.1 * 9001)
    assert cost(wanted).seconds is None


def test_estimates_grow_with_images_and_networks():
    small, large = (Measurement("detection", with_network(Spec(network, data, seed=99)))
                    for network, data in (("lenet5", "mnist"), ("resnet18", "cifar10")))  # fmt: skip
    assert cost(small).memory_mb < cost(large).memory_mb < 8000
    assert cost(small).disk_mb < 5 < cost(large).disk_mb
    assert costs._parameters("lenet5", (1, 28, 28), 10) == 61_706


def test_an_attack_makes_a_clean_network_and_its_own():
    measurement = plan("stealthy-1/ours-mnist", "full", 99).measurement
    clean = cost(Measurement("inflight", measurement.settings, 99))
    assert cost(measurement).disk_mb == pytest.approx(2 * clean.disk_mb)
    assert cost(measurement).memory_mb > clean.memory_mb


def test_a_peak_without_the_training_is_not_believed_where_it_must_train():
    wanted = plan("lred-2/l-1", "full", 99).measurement
    assert cost(wanted).disk_mb > 0  # no such network is there
    assert cost(wanted, [result(wanted, 10, memory=500)]).memory_mb == cost(wanted).memory_mb
    assert cost(wanted, [result(wanted, 10, memory=5000)]).memory_mb == pytest.approx(5500)


def test_a_network_that_is_there_takes_no_disk():
    assert (
        cost(Measurement("detection", with_network(Spec(trigger="box")))).disk_mb
        == cost(Measurement("mine:job")).disk_mb
    )


@pytest.mark.parametrize(("name", "one"), [("memory", Cost(1e9, 0.0, None)), ("disk", Cost(0.0, 1e12, None))])
def test_a_sweep_that_cannot_fit_is_refused(tmp_path, name, one):
    with pytest.raises(NoRoom, match=rf"{name}: expected 1,000,000,000.* MiB free"):
        check_room([one], 2, tmp_path / "not" / "yet")


def test_only_as_many_as_run_at_once_count(tmp_path):
    many = [Cost(0.4 * psutil.virtual_memory().available / 2**20, 0.0, None)] * 10
    check_room(many, 2, tmp_path)
    with pytest.raises(NoRoom, match=r"MiB .* 3 workers, got .* MiB"):
        check_room(many, 3, tmp_path)
    check_room(many, 3, tmp_path, here=False)  # a cluster has memory of its own


def test_networks_go_to_their_own_disk(tmp_path, monkeypatch):
    """Networks into the cache of checkpoints, results into their folder, each on a disk of its own."""
    full = tmp_path / "full"
    full.mkdir()
    free = lambda place: type("D", (), {"free": 0 if full in (place, *place.parents) else 10 * 2**20})  # noqa: E731
    monkeypatch.setattr("shutil.disk_usage", free)
    one = [Cost(0.0, 5.0, None)]
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(tmp_path / "networks"))
    check_room(one, 1, tmp_path / "results")
    with pytest.raises(NoRoom, match="for the results of 1 measurements"):
        check_room(one, 1, full)
    monkeypatch.setenv("BTLIB_CHECKPOINTS", str(full))
    with pytest.raises(NoRoom, match="for the networks of 1 measurements"):
        check_room(one, 1, tmp_path / "results")
    check_room(one, 1, tmp_path / "results", here=False)  # a cluster has a disk of its own
