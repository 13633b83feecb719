"""Each job has a GPU, or its part of one, to itself."""

import multiprocessing
import threading
import time
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from btlib.papers.devices import claimed, own_device, places


def test_two_claims_get_two_things_and_a_third_waits(tmp_path):
    third: list[int] = []

    def want() -> None:
        with claimed(["a", "b"], tmp_path, wait=0.01) as mine:
            third.append(mine)

    with claimed(["a", "b"], tmp_path) as one:
        with claimed(["a", "b"], tmp_path) as two:
            assert {one, two} == {0, 1}
            waiting = threading.Thread(target=want)
            waiting.start()
            waiting.join(0.2)
            assert third == []
        waiting.join(5)
        assert third == [two]


def hold(folder, ready) -> None:
    with claimed(["a", "b"], folder):
        ready.set()
        time.sleep(60)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_killed_process_gives_its_claim_back(tmp_path):
    context = multiprocessing.get_context("fork")  # a fresh process would take seconds to import torch
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(10)
    with claimed(["a", "b"], tmp_path) as mine:
        assert mine == 1
    holder.kill()
    holder.join()
    with claimed(["a", "b"], tmp_path) as mine:
        assert mine == 0


@pytest.fixture
def cards():
    """Two GPUs, of 16 and of 80 GiB, and a record of which is current and how much of it a job may have."""
    current, shares = [], []

    class Current:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            current.append(self.index)

        def __exit__(self, *_):
            current.pop()

    def card(index):
        return SimpleNamespace(uuid=f"gpu-{index}", total_memory=(16, 80)[index] * 2**30)

    fakes = {"is_available": lambda: True, "device_count": lambda: 2, "get_device_properties": card, "device": Current,
             "set_per_process_memory_fraction": lambda share, index: shares.append((index, share))}  # fmt: skip
    with mock.patch.multiple(torch.cuda, **fakes):
        yield current, shares


def test_a_gpu_has_a_place_for_each_20_gib_up_to_four(cards):
    assert places() == [(0, 1), (1, 4), (1, 4), (1, 4), (1, 4)]  # each GPU's first before any one's second


def test_each_job_gets_a_gpu_or_its_part_of_one(cards, tmp_path):
    """By their identity, and the first two on two GPUs; no GPU is needed to see it."""
    current, shares = cards
    with own_device(tmp_path) as one, own_device(tmp_path) as two, own_device(tmp_path) as three:
        assert [each.index for each in (one, two, three)] == [0, 1, 1]
        assert current == [0, 1, 1]
        assert shares == [(0, 1.0), (1, 0.25), (1, 0.25)]
    assert shares[3:] == [(1, 1.0), (1, 1.0), (0, 1.0)]
    with own_device(tmp_path) as again:
        assert again == torch.device("cuda", 0)
