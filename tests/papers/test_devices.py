"""One job at a time on each GPU."""

import multiprocessing
import threading
import time

import pytest
import torch

from btlib.papers.devices import claimed, own_device


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


def test_each_job_gets_a_gpu_of_its_own(tmp_path, monkeypatch):
    """As many as there are, by their identity; no GPU is needed to see it."""
    current = []

    class Current:
        def __init__(self, index):
            self.index = index

        def __enter__(self):
            current.append(self.index)

        def __exit__(self, *_):
            current.pop()

    class Card:
        def __init__(self, index):
            self.uuid = f"gpu-{index}"

    for name, value in {"is_available": lambda: True, "device_count": lambda: 2, "get_device_properties": Card,
                        "device": Current}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    with own_device(tmp_path) as one, own_device(tmp_path) as two:
        assert [one, two] == [torch.device("cuda", 0), torch.device("cuda", 1)]
        assert current == [0, 1]
    with own_device(tmp_path) as again:
        assert again == torch.device("cuda", 0)
