"""Sweeps: nothing is done twice, nothing finished is lost, whatever is killed."""

import contextlib
import hashlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.context import ForkProcess as Process
from pathlib import Path

import psutil
import pytest
import torch

from btlib import checkpoints
from btlib.locks import alone, lock
from btlib.papers import costs, store, sweep
from btlib.papers.measurements import Measurement, with_network
from btlib.papers.sweep import SweepError, Task, run, work


def tasks(folder: Path, count: int, kind: str = "square", **settings) -> list[Task]:
    shared = {"log": str(folder / "log"), **settings}
    return [Task(f"toy/{kind}", Measurement(f"sweep_jobs:{kind}", shared, seed)) for seed in range(count)]


def starts(folder: Path) -> Counter:
    """How often each seed was begun."""
    log = folder / "log"
    return Counter(map(int, log.read_text().split())) if log.exists() else Counter()


def until(what, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_work_keeps_what_it_measured(tmp_path):
    (task,) = tasks(tmp_path, 1)
    outcome = work(task, tmp_path)
    kept = store.find(tmp_path, task.measurement)
    assert outcome.result == kept
    assert (kept.numbers["square"], kept.row) == (0, "toy/square")
    assert kept.device == ("cuda:0" if torch.cuda.is_available() else "cpu")
    assert kept.seconds >= 0
    assert kept.peak_memory_mb > 10
    assert set(kept.environment) >= {"commit", "versions", "threads"}


def test_a_network_that_was_there_counts_with_its_training(tmp_path):
    spec = checkpoints.shipped()["clean"]
    measurement = Measurement("sweep_jobs:square", with_network(spec, log=str(tmp_path / "log")), spec.seed)
    trained = sum(epoch["seconds"] for epoch in checkpoints.read_card(checkpoints.find(spec)).history)
    kept = work(Task("toy/square", measurement), tmp_path).result
    assert trained > 1
    assert trained < kept.seconds < trained + 60  # its own work is a matter of milliseconds


def test_nothing_is_done_twice(tmp_path):
    wanted = tasks(tmp_path, 3)
    first = run(wanted, tmp_path, workers=1, progress=False)
    again = run([*wanted, *wanted], tmp_path, workers=1, progress=False)
    assert [o.result.numbers["square"] for o in first] == [0, 1, 4]
    assert [o.result for o in again] == [o.result for o in first]
    assert [o.found for o in again] == [True] * 3
    assert starts(tmp_path) == {0: 1, 1: 1, 2: 1}


def test_a_torn_result_is_measured_anew(tmp_path):
    (task,) = tasks(tmp_path, 1)
    run([task], tmp_path, workers=1, progress=False)
    path = store.path_of(tmp_path, task.row, task.measurement)
    path.write_text(path.read_text()[:100])
    (outcome,) = run([task], tmp_path, workers=1, progress=False)
    assert not outcome.found
    assert store.read(path) == outcome.result
    assert starts(tmp_path) == {0: 2}


def test_one_jobs_trouble_does_not_end_the_sweep(tmp_path):
    good, (bad,) = tasks(tmp_path, 2), tasks(tmp_path, 1, "fail")
    outcomes = run([good[0], bad, good[1]], tmp_path, workers=1, progress=False)
    assert [o.error for o in outcomes] == ["", "RuntimeError: two lines", ""]
    assert outcomes[1].result is None
    assert store.find(tmp_path, bad.measurement) is None


def test_what_could_not_be_kept_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"results: expected a folder to write to, got .*file"):
        run(tasks(tmp_path, 1), tmp_path / "file", progress=False)
    assert not starts(tmp_path)


def test_what_is_there_needs_no_folder_to_write_to(tmp_path, monkeypatch):
    wanted = tasks(tmp_path, 1)
    run(wanted, tmp_path, workers=1, progress=False)
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    assert run(wanted, tmp_path, progress=False)[0].found


def test_each_device_is_asked_for_its_environment_once():
    sweep._environment.cache_clear()
    seen = [sweep._environment(device) for device in ("cuda:0", "cuda:1", "cuda:0")]
    assert seen[0] is seen[2]
    assert sweep._environment.cache_info().misses == 2


def test_a_lock_that_fails_is_an_outcome(tmp_path):
    (task,) = tasks(tmp_path, 1)
    path = store.path_of(tmp_path, task.row, task.measurement)
    with alone(path):
        taken = Path(lock(hashlib.sha256(str(path).encode()).hexdigest()[:16]).lock_file)
    taken.unlink(missing_ok=True)
    taken.mkdir()  # where the file of the lock should be
    try:
        outcome = work(task, tmp_path)
    finally:
        taken.rmdir()
    assert outcome.result is None
    assert outcome.error


def test_threads_are_put_back(tmp_path):
    before = torch.get_num_threads()
    good, (bad,) = tasks(tmp_path, 1), tasks(tmp_path, 1, "fail")
    outcome = work(good[0], tmp_path, threads=before + 1)
    assert outcome.result.numbers["threads"] == before + 1
    assert torch.get_num_threads() == before
    work(bad, tmp_path, threads=before + 1)
    assert torch.get_num_threads() == before


def test_a_result_that_can_not_be_kept_is_not_lost(tmp_path):
    (tmp_path / "there").touch()
    (task,) = tasks(tmp_path, 1)
    outcome = work(task, tmp_path / "there")
    assert outcome.result.numbers["square"] == 0
    assert "NotADirectoryError" in outcome.error or "FileExistsError" in outcome.error


def test_what_cannot_fit_is_refused_before_anything_starts(tmp_path):
    measured = work(tasks(tmp_path, 1)[0], tmp_path).result  # so much memory did the first seed take, it says
    store.write(tmp_path, replace(measured, peak_memory_mb=1e9))
    (tmp_path / "log").unlink()
    with pytest.raises(costs.NoRoom):
        run(tasks(tmp_path, 2), tmp_path, workers=2, progress=False)
    assert not starts(tmp_path)
    with pytest.raises(ValueError, match="workers"):
        run(tasks(tmp_path, 2), tmp_path, workers=0)


@pytest.mark.slow
def test_two_processes_share_the_work_with_one_thread_each(tmp_path):
    outcomes = run(tasks(tmp_path, 4, seconds=0.5), tmp_path, workers=2, progress=False)
    numbers = [o.result.numbers for o in outcomes]
    assert [n["square"] for n in numbers] == [0, 1, 4, 9]
    assert {n["threads"] for n in numbers} == {1}
    assert len({n["pid"] for n in numbers} | {os.getpid()}) == 3
    # A worker that is killed ends the sweep with one error; what was finished stays.
    log, pid = str(tmp_path / "log"), tmp_path / "pid"
    stuck = Task("toy/stuck", Measurement("sweep_jobs:wait_to_be_killed", {"log": log, "pid": str(pid)}, 99))
    killer = threading.Thread(target=lambda: (until(pid.exists), os.kill(int(pid.read_text()), signal.SIGKILL)))
    killer.start()
    with pytest.raises(SweepError, match="killed"):
        run([*tasks(tmp_path, 4, seconds=0.5), stuck], tmp_path, workers=2, progress=False)
    killer.join()
    (outcome,) = run([stuck], tmp_path, workers=1, progress=False)
    assert outcome.result.numbers == {"killed": int(pid.read_text())}
    assert all(count == 1 for seed, count in starts(tmp_path).items() if seed != 99)


def process(folder: Path) -> Process:
    """The same sweep in a process of its own; forked, as a fresh one would take seconds to import torch."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    settings = {"workers": 1, "progress": False}
    sweeping = multiprocessing.get_context("fork").Process(
        target=run, args=(tasks(folder, 6, seconds=0.3), folder), kwargs=settings
    )
    sweeping.start()
    return sweeping


def test_a_killed_sweep_goes_on_where_it_stopped(tmp_path):
    sweeping = process(tmp_path)
    until(lambda: len(store.every(tmp_path)) >= 2 and max(starts(tmp_path)) >= 2)
    sweeping.kill()
    sweeping.join()
    done = set(store.every(tmp_path))
    begun = starts(tmp_path)
    assert len(begun) - len(done) <= 1  # at most the running job is lost
    outcomes = run(tasks(tmp_path, 6, seconds=0.3), tmp_path, workers=1, progress=False)
    assert [o.result.numbers["square"] for o in outcomes] == [0, 1, 4, 9, 16, 25]
    assert {o.task.measurement.digest for o in outcomes if o.found} == done
    assert sum(starts(tmp_path).values()) - 6 == len(begun) - len(done)


def test_workers_end_with_a_sweep_that_is_killed_while_they_load(tmp_path):
    """They used to look for their parent only with the first task: after torch, which takes them seconds to load."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    (tmp_path / "torch.py").write_text(
        "import os, pathlib, time\n"
        f"(pathlib.Path({str(tmp_path)!r}) / f'{{os.getpid()}}.loads').touch()\n"
        "time.sleep(120)\n"
    )

    def sweeping():
        sys.path.insert(0, str(tmp_path))  # for the workers: here, torch is loaded already
        run(tasks(tmp_path, 6), tmp_path / "results", workers=2, progress=False)

    parent = multiprocessing.get_context("fork").Process(target=sweeping)
    parent.start()
    until(lambda: any(tmp_path.glob("*.loads")))
    workers = [psutil.Process(int(path.stem)) for path in tmp_path.glob("*.loads")]
    parent.kill()
    parent.join()
    until(lambda: all(not each.is_running() or each.status() == psutil.STATUS_ZOMBIE for each in workers), 10)


def test_two_sweeps_at_once_do_not_harm_one_another(tmp_path):
    other = process(tmp_path)
    outcomes = run(tasks(tmp_path, 6, seconds=0.3), tmp_path, workers=1, progress=False)
    other.join(60)
    assert other.exitcode == 0
    assert [o.result.numbers["square"] for o in outcomes] == [0, 1, 4, 9, 16, 25]
    assert set(starts(tmp_path).values()) == {1}  # who comes second waits for the result
    assert len(store.every(tmp_path)) == 6
    assert len(list((tmp_path / "toy").glob("*.json"))) == 6


@pytest.mark.slow
def test_a_dask_cluster_survives_the_death_of_a_worker(tmp_path):
    distributed = pytest.importorskip("distributed")
    pid = tmp_path / "pid"
    stuck = Task(
        "toy/stuck", Measurement("sweep_jobs:wait_to_be_killed", {"log": str(tmp_path / "log"), "pid": str(pid)})
    )
    wanted = [stuck, *tasks(tmp_path, 4, seconds=0.1)]
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        killer = threading.Thread(target=lambda: (until(pid.exists), os.kill(int(pid.read_text()), signal.SIGKILL)))
        killer.start()
        outcomes = run(wanted, tmp_path, dask=cluster.scheduler_address, progress=False)
        killer.join()
    assert [o.error for o in outcomes] == [""] * 5
    assert outcomes[0].result.numbers == {"killed": int(pid.read_text())}
    assert [o.result.numbers["square"] for o in outcomes[1:]] == [0, 1, 4, 9]
    assert len({o.result.numbers["pid"] for o in outcomes[1:]} - {os.getpid()}) >= 1
    assert len(store.every(tmp_path)) == 5


@pytest.mark.slow
def test_who_waits_for_workers_is_told(tmp_path):
    distributed = pytest.importorskip("distributed")
    said = []
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster:

        class Listening(io.StringIO):
            def write(self, text):
                if "waiting" in text:
                    said.append(text)
                    cluster.scale(1)
                return len(text)

        in_silence = threading.Timer(20, cluster.scale, [1])  # a run that says nothing would wait for ever
        in_silence.start()
        with contextlib.redirect_stderr(Listening()):
            (outcome,) = run(tasks(tmp_path, 1), tmp_path, dask=cluster.scheduler_address, progress=False)
        in_silence.cancel()
        assert said == [f"no worker has joined {cluster.scheduler_address} yet: waiting for one"]
    assert outcome.result.numbers["square"] == 0


def test_no_cluster_is_said(tmp_path):
    dask = pytest.importorskip("distributed").client.dask
    soon = {"distributed.comm.timeouts.connect": "0.5s"}
    with dask.config.set(soon), pytest.raises(SweepError, match=r"tcp://127\.0\.0\.1:9"):
        run(tasks(tmp_path, 1), tmp_path, dask="tcp://127.0.0.1:9", progress=False)


def test_results_from_another_disk_are_written_here(tmp_path):
    (task,) = tasks(tmp_path, 1)
    outcome = work(task, tmp_path / "there")
    not_kept = replace(outcome, error="OSError: read-only")  # the worker has no such folder
    assert sweep._received(task, not_kept, tmp_path / "here") == outcome
    assert store.find(tmp_path / "here", task.measurement) == outcome.result
    dead = sweep._received(task, (RuntimeError, RuntimeError("worker died"), None), tmp_path)
    assert dead.error == "RuntimeError: worker died"
