"""Peak memory, of this process and of those that it starts."""

import multiprocessing
import subprocess
import sys
import threading
import time

import torch

from btlib.peak_memory import PeakMemory


def test_peak_memory_counts_children_of_its_block_only():
    hold = "b = bytearray({} * 2**20); import time; time.sleep(9)"
    older = subprocess.Popen([sys.executable, "-c", hold.format(400)])
    with PeakMemory(interval=0.02) as memory:
        child = subprocess.Popen([sys.executable, "-c", hold.format(100)])
        time.sleep(1)
        child.kill()
        child.wait()
    older.kill()
    older.wait()
    assert 100 < memory.mb < 300


def _hold_memory() -> tuple[float, float]:
    with PeakMemory(own=True) as before:
        pass
    with PeakMemory(own=True) as peak:
        held = torch.ones(50 * 2**20)  # 200 MiB
        threading.Event().wait(0.25)
        del held
    return before.mb, peak.mb


def test_peak_memory_sees_what_a_job_held():
    # In a fresh process: this one may still hold memory that other tests have freed, and use that.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before, peak = pool.apply(_hold_memory)
    assert before + 150 < peak < before + 400
