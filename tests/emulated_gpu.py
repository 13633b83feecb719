"""A CUDA device for machines without one: real numbers, computed by the CPU under CUDA's rules.

Inside `emulated_gpu()` torch says that there is one GPU. What is moved to it says ``cuda:0``, and what CUDA refuses is
refused: operations on tensors of both devices (single numbers of the CPU may meet a GPU's tensor element by element,
as there), a CPU tensor indexed by a GPU's, NumPy of a GPU's tensor, draws on the GPU by a CPU generator. `counts` says
how many operations there were, and how often the CPU had to wait for a result (``sync``).

Rules stand at the level of aten's operations, so backward passes and optimisers are under them, too. Not emulated: what
CUDA rounds otherwise, memory, streams, and a wrong `torch.device` of a tensor that never meets another.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
counts: Counter[str] = Counter()
#: Lines that made the CPU wait, how often.
waits: Counter[str] = Counter()
_WAIT = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount", "is_nonzero"}
_COPY = {"_to_copy", "copy_"}
_INDEX = {"index", "index_put_", "index_put", "_unsafe_index", "_index_put_impl_"}


class OnGpu(Tensor):
    """A tensor of the emulated GPU: its numbers are in `held`, on the CPU; only its name is another."""

    held: Tensor
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        # For torch's own eyes it lies on the CPU: the engine of backward passes asks a real GPU for its threads.
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
        )  # type: ignore[attr-defined]  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass(), _asked_for(kwargs.get("device") or GPU):
            if func is Tensor.to:
                return _moved(*args, **kwargs)
            if func == Tensor.data.__set__:  # type: ignore[attr-defined]
                args[0].held = args[1].held
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def cpu(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.to("cpu", *args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> Tensor:
        return self

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        return self.detach().cpu().numpy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:
        return f"{self.detach().cpu()!r} on {GPU}"

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnGpu":
        if id(self) not in memo:
            made = OnGpu(self.held.detach().clone()).requires_grad_(self.requires_grad)
            made._is_param = getattr(self, "_is_param", False)  # type: ignore[attr-defined]
            memo[id(self)] = made
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:  # every file of ours is read to the CPU
        return self.detach().cpu().__reduce_ex__(protocol)


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to` where one of the tensors lies on the GPU."""
    if args and isinstance(args[0], Tensor):
        args, kwargs = args[1:], {"device": args[0].device, "dtype": args[0].dtype} | kwargs
    named = {type(each): each for each in args}  # in any order; what is None or a bool hardly matters
    place = torch.device(kwargs.get("device") or named.get(torch.device) or named.get(str) or tensor.device)
    dtype = kwargs.get("dtype") or named.get(torch.dtype) or tensor.dtype
    if place.type == tensor.device.type:
        rest = {key: value for key, value in kwargs.items() if key in ("copy", "memory_format")}
        return Tensor.to(tensor, dtype=dtype, **rest)
    with _asked_for(place):
        return torch.ops.aten._to_copy(tensor, dtype=dtype, device=place, memory_format=kwargs.get("memory_format"))


#: Where the results of calls in progress belong. For torch's own code our tensors lie on the CPU, so what it makes for
#: itself meanwhile (the zeros of a one-hot tensor, say) is asked for there.
_ASKED: list[str] = []


@contextmanager
def _asked_for(place: str | torch.device) -> Iterator[None]:
    _ASKED.append(torch.device(place).type)
    try:
        yield
    finally:
        _ASKED.pop()


class _Gpu(TorchDispatchMode):
    """Sees what makes tensors from none, too: ``torch.zeros(3, device="cuda")``, ``x.to("cuda")``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """`torch.tensor` and its like read numbers by themselves before anybody sees a tensor."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and not isinstance(args[0], Tensor):
            place = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if place is None else made.to(place)
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of aten: checked, done on the CPU, and its results named as CUDA's would be."""
    given = list(_leaves((args, *kwargs.values())))
    here = {id(each.held): each for each in given if isinstance(each, OnGpu)}
    place = kwargs.get("device")
    to_gpu = bool(here)
    if place is not None:
        to_gpu = torch.device(place).type == "cuda" or (_ASKED[-1] == "cuda" if _ASKED else to_gpu)
    if not here and not to_gpu:
        return func(*args, **kwargs)
    name = func.overloadpacket.__name__
    _check(func, name, args, given, to_gpu)
    _count(name, args, to_gpu)
    if place is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    # What is held is never a tensor of inference mode: it may be a part of one that is not.
    with torch.inference_mode(False), torch.no_grad():
        out = func(*_mapped(_held, args), **{key: _mapped(_held, value) for key, value in kwargs.items()})
        # What was changed in place is the tensor that was given.
        return _mapped(lambda result: here[id(result)] if id(result) in here else OnGpu(result), out) if to_gpu else out


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, OnGpu) else tensor


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_mapped(change, each) for each in value) if isinstance(value, list | tuple) else value


def _check(func: Any, name: str, args: Any, given: list[Any], to_gpu: bool) -> None:
    """What CUDA refuses."""
    for each in given:
        if isinstance(each, torch.Generator) and to_gpu and each.device.type == "cpu":
            raise RuntimeError(f"{name}: expected a 'cuda' device type for generator but found 'cpu'")
    ours = [each for each in given if isinstance(each, OnGpu)]
    others = [each for each in given if isinstance(each, Tensor) and not isinstance(each, OnGpu)]
    if not ours or not others or name in _COPY:
        return
    if name in _INDEX and isinstance(args[0], OnGpu):  # indices may lie on the CPU; so may one number to be put there
        others = [value for value in args[2:3] if isinstance(value, Tensor) and not isinstance(value, OnGpu)]
    numbers = torch.Tag.pointwise in func.tags or name in _INDEX or name.startswith("fill")
    # A number of the CPU may be read, not written.
    written = name.endswith("_") and any(each is first for first in args[:1] for each in others)
    if written or any(each.ndim > 0 or not numbers for each in others):
        shapes = [tuple(each.shape) for each in ours], [tuple(each.shape) for each in others]
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 {shapes[0]} and cpu {shapes[1]}!"
        )


def _count(name: str, args: Any, to_gpu: bool) -> None:
    counts["operations"] += 1
    chosen = list(_leaves(args[1:2])) if name in _INDEX else ()
    masked = any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in chosen)
    if name in _WAIT or masked or (name == "_to_copy" and not to_gpu):
        counts["sync"] += 1
        waits[_place()] += 1


def _place() -> str:
    """The line of ours that asked."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if "/btlib/" in file or ("/tests/" in file and file != __file__) or "ipykernel" in file or "<ipython" in file:
            return f"{file.rpartition('/btlib/')[2] or file}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class _Autocast(torch.autocast):
    """What is cast is what the CPU casts."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class _Current(nullcontext):
    """`torch.cuda.device`: there is one."""

    def __init__(self, device: Any) -> None:
        super().__init__()


_PROPERTIES = SimpleNamespace(
    name="Emulated GPU", uuid="EMU-0", total_memory=8 * 2**30, multi_processor_count=132, major=9, minor=0
)
_CUDA: dict[str, Any] = {
    "is_available": lambda: True,
    "is_bf16_supported": lambda including_emulation=True: False,
    "is_initialized": lambda: True,
    "_lazy_init": lambda: None,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda *_: _PROPERTIES.name,
    "get_device_properties": lambda *_: _PROPERTIES,
    "get_device_capability": lambda *_: (9, 0),
    "mem_get_info": lambda *_: (6 * 2**30, 8 * 2**30),
    "synchronize": lambda *_: counts.update(["sync"]),
    "get_rng_state": lambda *_: torch.empty(16, dtype=torch.uint8),
    "set_rng_state": lambda *_: None,
    "manual_seed": lambda *_: None,
    "manual_seed_all": lambda *_: None,
    "empty_cache": lambda: None,
    "get_per_process_memory_fraction": lambda *_: 1.0,
    "set_per_process_memory_fraction": lambda *_: None,
    "max_memory_allocated": lambda *_: 2**20,
    "max_memory_reserved": lambda *_: 2**20,
    "reset_peak_memory_stats": lambda *_: None,
    "is_current_stream_capturing": lambda: False,
    "device": _Current,
}


@contextmanager
def emulated_gpu() -> Iterator[Counter[str]]:
    """Inside, torch has a GPU, without bf16, which many CPUs are slow at; gives `counts`, from zero. Once is enough."""
    counts.clear()
    waits.clear()
    if torch.cuda.get_device_name is _CUDA["get_device_name"]:
        yield counts
        return
    torch._C._ensureCUDADeviceGuardSet()  # else torch asks the driver, which is not there
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.multiple(torch.cuda, **_CUDA))
        stack.enter_context(mock.patch.object(torch, "autocast", _Autocast))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrites)
        stack.enter_context(_Gpu())
        stack.enter_context(_FromNumbers())
        yield counts


def run_lesson(path: Path) -> None:
    """The code of a lesson, cell by cell, as a kernel would run it; ends with what went wrong, if anything did."""
    from IPython.core.interactiveshell import InteractiveShell

    shell, cells = InteractiveShell.instance(), json.loads(path.read_text(encoding="utf-8"))["cells"]
    os.chdir(path.parent)
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            ran = shell.run_cell("".join(cell["source"]), store_history=False)
            if error := ran.error_before_exec or ran.error_in_exec:
                sys.exit(f"{path.name}, cell {place}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    with emulated_gpu():
        run_lesson(Path(sys.argv[1]).resolve())
        print(f"{counts['operations']} operations, waited {counts['sync']} times; most often in {waits.most_common(5)}")
