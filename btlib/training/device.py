"""Where and with which random state a network is trained (floor 2)."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, get_args

import torch
from torch import nn

from btlib.networks import layout
from btlib.seeds import check_seed

Precision = Literal["auto", "float32", "bf16"]


def device_for(device: str | torch.device | None = None) -> torch.device:
    """Where to train: `device`, or the GPU when there is one, else the CPU.

    Example:
        >>> device_for("cpu").type
        'cpu'
    """
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def placed(module: nn.Module, device: torch.device, memory_format: torch.memory_format | None = None) -> None:
    """Move a module, in place, to a device and into a memory order; None: where it computes fastest there.

    Example:
        >>> placed(nn.Linear(1, 1), device_for("cpu"))
    """
    module.to(device=device, memory_format=memory_format or layout(module, device))  # type: ignore[call-overload]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random state set by a seed, on the CPU and on `device`; the caller's is put back.

    Example:
        >>> with seeded(0, device_for("cpu")):
        ...     round(torch.rand(()).item(), 3)
        0.496
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(check_seed(seed))
        yield


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware computes in bf16 faster than in float32; of other than GPUs and CPUs it is not known."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # Measured: a small residual network trains 1.9 times as fast with AVX-512 BF16; where it is emulated, half as fast.
    return any(bool(getattr(torch.cpu, f"_is_{has}_supported", bool)()) for has in ("amx_tile", "avx512_bf16"))


def in_precision(precision: Precision, device: torch.device) -> torch.autocast:
    """Convolutions and products in this precision: ``"auto"`` is bf16 on a device that is faster in it.

    Raises:
        ValueError: another name.

    Example:
        >>> with in_precision("bf16", torch.device("cpu")):
        ...     nn.Linear(1, 1)(torch.zeros(1)).dtype
        torch.bfloat16
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision: expected one of {', '.join(get_args(Precision))}, got {precision!r}")
    half = precision == "bf16" or (precision == "auto" and has_bf16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


@cache
def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory: a step's activations are otherwise handed back and faulted in again.

    Measured: a fifth of the time of an epoch on two cores. Elsewhere than on glibc it does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    m_mmap_max, m_trim_threshold = -4, -1
    mallopt(m_mmap_max, 0)
    mallopt(m_trim_threshold, 2**31 - 1)
