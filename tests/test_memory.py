"""Too little memory is said in one sentence, whoever noticed it first."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from btlib import cli, detection, inflight, metrics, repair, training, triggers
from btlib.cli.scan import BAD_INPUT, refusing
from btlib.memory import enough_memory, is_short
from btlib.resume import ResumeFile

SAID = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried …"),
    RuntimeError("could not create a primitive"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ImportError("/lib/_core.so: failed to map segment from shared object"),
    OSError(12, "Cannot allocate memory"),
]  # fmt: skip


@pytest.mark.parametrize("error", SAID, ids=repr)
def test_each_way_of_saying_it_becomes_one_sentence(error: Exception) -> None:
    says = f'memory: expected enough for the work, got "{(str(error) or "MemoryError")[:20]}'
    with pytest.raises(MemoryError) as caught, enough_memory("the work"):
        raise error
    assert str(caught.value).startswith(says)
    assert "; give it fewer or smaller images or batches at once" in str(caught.value)
    assert caught.value.__cause__ is error


def test_torch_says_what_is_looked_for() -> None:
    with pytest.raises(MemoryError, match='got ".*you tried to allocate 4503599627370496 bytes'), enough_memory("it"):
        torch.empty(2**50)


def test_who_took_it_for_another_mistake_is_corrected() -> None:
    """A damaged file, for instance, which one would delete."""

    def read() -> None:
        try:
            raise RuntimeError("could not create a primitive")
        except RuntimeError:
            raise ValueError("resume: expected a whole file, got a damaged one; delete it") from None

    with pytest.raises(MemoryError, match="could not create a primitive"), enough_memory("training"):
        read()


def test_it_is_said_once_by_who_is_nearest() -> None:
    with pytest.raises(MemoryError, match="enough for training") as caught, enough_memory("this command"):  # noqa: SIM117
        with enough_memory("training"):
            raise RuntimeError("could not create a primitive")
    assert str(caught.value).count("memory: ") == 1


@pytest.mark.parametrize("error", [
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory"), KeyError("out of memory"),
    OSError(2, "No such file"), KeyboardInterrupt(), SystemExit(3),
])  # fmt: skip
def test_everything_else_stays_what_it_was(error: BaseException) -> None:
    assert not is_short(error)
    with pytest.raises(type(error)) as caught, enough_memory("the work"):
        raise error
    assert caught.value is error


class Starving(training.loop.Stage):
    epochs, steps, state = 1, 1, {}

    def start(self, epoch: int) -> list[int]:
        return [2**50]

    def step(self, batch: int, taken: int) -> torch.Tensor:
        return torch.empty(batch).mean()


def test_training_says_so_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    with pytest.raises(MemoryError, match="memory: expected enough for training, got"):
        training.loop.train([Starving()], ResumeFile(None), seed=0, device=torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_scan_that_starves_is_no_backdoor_found(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="2") as left, refusing("the scan"):
        torch.empty(2**50)
    assert left.value.exit_code == BAD_INPUT  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert said.startswith("memory: expected enough for the scan, got")
    assert said.count("\n") == 1


def test_a_command_that_starves_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def starving(*_: object, **__: object) -> None:
        raise ImportError("_core.so: failed to map segment from shared object")

    monkeypatch.setattr("btlib.cli.app.app", starving)
    with pytest.raises(SystemExit) as left:
        cli.main(["check"])
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith('memory: expected enough for this command, got "_core.so: failed')


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of address space")
def test_a_whole_command_in_little_memory_says_so() -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (400 << 20,) * 2); from btlib import cli; "
    done = subprocess.run(
        [sys.executable, "-c", limited + "cli.main(['scan', 'x.pth'])"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("memory: expected enough for this command, got")
    assert "Traceback" not in done.stderr


class Hungry(nn.Module):
    """Says little of a few images, and wants a petabyte for more."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad or len(x) > 3:
            torch.empty(2**50)
        return self.scale * x.flatten(1)[:, :3]


def test_detectors_guards_and_repairs_say_so() -> None:
    images, labels = torch.rand(30, 1, 2, 2), torch.arange(30) % 3
    a_pass = "memory: expected enough for a pass through the network, got"
    with pytest.raises(MemoryError, match=a_pass):
        metrics.predict(Hungry(), images)
    with pytest.raises(MemoryError, match="memory: expected enough for a detection, got"):
        detection.RedA(per_class=10)(Hungry(), images, labels)
    with pytest.raises(MemoryError, match=a_pass):
        inflight.LikelihoodDetector().fit(Hungry(), images, labels, target=0, trigger=triggers.box((1, 2, 2), size=1))
    with pytest.raises(MemoryError, match=a_pass):
        repair.FineTuning()(Hungry(), images, labels)
