"""Many measurements at once: on this machine or a Dask cluster; a killed sweep goes on where it stopped (floor 5).

A job keeps its own result before it says that it is done, so whatever is killed, only running jobs are lost.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm.auto import tqdm

from btlib import checkpoints, paths
from btlib.locks import alone, end_with
from btlib.papers import store
from btlib.papers.costs import check_room, cost
from btlib.papers.devices import own_device, places
from btlib.papers.measurements import Measurement
from btlib.papers.store import Result
from btlib.peak_memory import PeakMemory
from btlib.results import environment

_TURN = threading.Lock()  # a Dask worker may have many threads; torch's random state is one for all of them


class SweepError(RuntimeError):
    """The sweep itself broke, not one of its jobs; what is finished is kept."""


@dataclass(frozen=True)
class Task:
    """A measurement to run, and the row in whose name its result is kept.

    Attributes:
        row: ``table/row``; any two names will do for measurements of your own.
        measurement: what to measure.
    """

    row: str
    measurement: Measurement


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        task: the task.
        result: what was measured; None: it failed.
        error: why it failed or could not be kept, one line; empty: all is well.
        found: whether the result was there already.
    """

    task: Task
    result: Result | None
    error: str = ""
    found: bool = False


def work(task: Task, folder: str | Path, threads: int | None = None) -> Outcome:
    """Do one task here and now, unless its result is there.

    Args:
        task: what to do.
        folder: of the results.
        threads: of torch; None: as many as it has.

    Returns:
        an `Outcome`; a job that raises is an outcome, not an exception.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     work(Task("my/row", Measurement("nonsense")), folder).error[:10]
        'ValueError'
    """
    from btlib.papers import jobs  # slow: everything that is measured; listing tables needs none of it

    result = None
    try:
        with _TURN, alone(store.path_of(folder, task.row, task.measurement)), _threads(threads):
            if found := store.find(folder, task.measurement):
                return Outcome(task, found, found=True)
            # Networks that are there already count as long as they took: what the row costs anywhere else.
            spared = sum(map(checkpoints.seconds_spent, jobs.networks(task.measurement)))
            with own_device() as device, PeakMemory(own=True) as peak:
                began = time.perf_counter()
                numbers = jobs.run(task.measurement, device)
                seconds = time.perf_counter() - began + spared
                here = _environment(str(device))
            result = Result(task.row, task.measurement, numbers, seconds, peak.mb, str(device), here,
                            datetime.now(UTC).isoformat(timespec="seconds"))  # fmt: skip
            store.write(folder, result)
    except Exception as error:  # one job's trouble must not end the sweep
        return Outcome(task, result, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Outcome(task, result)


def run(
    tasks: Iterable[Task], folder: str | Path | None = None, *, workers: int | None = None, dask: str | None = None,
    progress: bool = False,
) -> list[Outcome]:  # fmt: skip
    """Do many tasks.

    Args:
        tasks: what to do; a measurement that is named twice is done once.
        folder: of the results, None: `paths.results`; with Dask it must be one that the workers see too, or this
            process writes it.
        workers: processes on this machine. One: this very process with all threads; more: one thread each.
            None: as many as the GPUs hold (`devices.places`), else one.
        dask: address of a Dask scheduler that runs the tasks instead, such as ``tcp://host:8786``.
        progress: show a bar.

    Returns:
        one outcome per measurement, in the order of the tasks.

    Raises:
        NoRoom: it would not fit into memory or on the disk; nothing was started.
        SweepError: a worker was killed, or there is no cluster; what is finished is kept, a new run goes on.
        ValueError: no worker, or a folder that can't be written to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [each.error[:10] for each in run([Task("my/row", Measurement("nonsense"))], folder, progress=False)]
        ['ValueError']
    """
    each = {task.measurement.digest: task for task in tasks}
    count = workers if workers is not None else max(1, len(places()))
    if count < 1:
        raise ValueError(f"workers: expected at least 1, got {count}; leave it out for as many as the GPUs hold")
    folder = Path(folder or paths.results()).absolute()
    known = store.every(folder)
    outcomes = {digest: Outcome(task, known[digest], found=True) for digest, task in each.items() if digest in known}
    todo = [task for digest, task in each.items() if digest not in known]
    if todo:
        _check_writable(folder)
    check_room([cost(task.measurement, known.values()) for task in todo], count, folder, here=dask is None)
    if not todo:
        done: Iterator[Outcome] = iter(())
    elif dask is not None:
        done = _on_dask(todo, folder, dask)
    else:
        done = _on_processes(todo, folder, count)
    with tqdm(total=len(each), initial=len(outcomes), desc="measurements", unit="row", disable=not progress) as bar:
        for outcome in done:
            outcomes[outcome.task.measurement.digest] = outcome
            bar.set_postfix_str(outcome.task.row + (" failed" if outcome.error else ""))
            bar.update()
    return [outcomes[digest] for digest in each]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads of torch for a while; None: as many as it has."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def _on_processes(tasks: Sequence[Task], folder: Path, workers: int) -> Iterator[Outcome]:
    if workers == 1:
        yield from (work(task, folder) for task in tasks)
        return
    # A worker watches its parent before it loads torch, which takes seconds: a sweep that is killed can't end it.
    watch = {"initializer": end_with, "initargs": (os.getpid(),)}
    with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, **watch):
        each = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        try:
            yield from each(joblib.delayed(work)(task, folder, 1) for task in tasks)
        except TerminatedWorkerError as error:
            raise SweepError("a worker was killed, most likely for want of memory; what is finished is kept. Run it "
                             "again to go on, with fewer --workers if it happens twice") from error  # fmt: skip


def _on_dask(tasks: Sequence[Task], folder: Path, address: str) -> Iterator[Outcome]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise SweepError("dask: expected the package distributed, got none; pip install 'btlib[dask]'") from error
    try:
        client = Client(address)
    except (OSError, ValueError) as error:
        raise SweepError(f"dask: expected a scheduler at {address}, got {error}; is it running?") from error
    with client:
        if not client.scheduler_info()["workers"]:
            tqdm.write(f"no worker has joined {address} yet: waiting for one", file=sys.stderr)
        futures = client.map(partial(work, folder=folder), tasks, pure=False)
        task_of = dict(zip(futures, tasks, strict=True))
        for future, got in as_completed(futures, with_results=True, raise_errors=False):
            yield _received(task_of[future], got, folder)


def _received(task: Task, got: Any, folder: Path) -> Outcome:
    """What came over the network; the result is written here where workers have another disk."""
    if not isinstance(got, Outcome):  # the exception of a worker that died again and again
        kind, error = (got[0].__name__, got[1]) if isinstance(got, tuple) else (type(got).__name__, got)
        return Outcome(task, None, f"{kind}: {' '.join(str(error).split())}")
    if got.result is None:
        return got
    if store.find(folder, task.measurement) is None:
        store.write(folder, got.result)
    return replace(got, error="")  # where the worker could not keep it, it is kept here


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"results: expected a folder to write to, got {folder} ({error.strerror}); choose another "
                         "one, before hours are measured for nothing") from error  # fmt: skip


@cache
def _environment(device: str) -> dict[str, Any]:
    """Asked once in a process and for each device: its code does not change, and asking git takes time."""
    return environment()
