"""State dicts as strangers save them: wrapped, prefixed, halved, with counters beside the weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from btlib.cli.adapting import ForeignError

#: What training scripts keep the weights under, the likeliest first.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "netC", "network", "net_state_dict", "weights",
    "params", "module", "classifier", "state_dict_ema", "model_ema", "ema", "state",
)  # fmt: skip
SAVE_AGAIN = "save torch.save(net.state_dict(), path)"
#: No file of weights holds more times its own size: numbers that were learned hardly pack.
TIGHTEST = 10
#: Counters that profilers leave among a network's buffers.
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params")


def unwrapped(found: Any, name: str) -> dict[str, Tensor]:
    """The names and tensors in what a file holds, however it was wrapped.

    Args:
        found: what was read, plain containers and tensors.
        name: of the file, for messages.

    Raises:
        ForeignError: there are no weights in it.
    """
    tried = found
    for _ in range(4):  # {"state": {"model": {...}}} and the like
        if isinstance(tried, Mapping) and any(isinstance(value, Tensor) for value in tried.values()):
            return _counted_out({str(key): value for key, value in tried.items() if isinstance(value, Tensor)})
        inner = _inner(tried)
        if inner is None:
            break
        tried = inner
    keys = f" with {', '.join(map(str, list(tried)[:6]))}" if isinstance(tried, Mapping) else ""
    raise ForeignError(
        f"WEIGHTS: expected a state dict (names and tensors), got {type(tried).__name__}{keys} in {name}; {SAVE_AGAIN}"
    )


def check_plain(weights: Mapping[str, Tensor], size: int, name: str) -> None:
    """Whether tensors are plain numbers, and no more of them than a file can hold.

    A tensor may be one number repeated a million times; to copy it is to make them all.

    Args:
        weights: as read.
        size: of the file, in bytes.
        name: of the file, for messages.

    Raises:
        ForeignError: they are not.
    """
    for key, value in weights.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            kind = (
                "a meta tensor" if value.is_meta else f"a {value.layout} tensor of {value.dtype}".replace("torch.", "")
            )
            raise ForeignError(f"WEIGHTS: expected plain tensors in {name}, got {kind} for {key}; {SAVE_AGAIN}")
    claimed = sum(value.numel() * value.element_size() for value in weights.values())
    if claimed > TIGHTEST * size:
        raise ForeignError(f"WEIGHTS: expected tensors stored whole, got {claimed:,} bytes of them in {name}, which "
                           f"holds {size:,}; save them with .contiguous()")  # fmt: skip


def _inner(found: Any) -> Mapping | None:
    """The mapping inside a mapping that most likely holds the weights."""
    if not isinstance(found, Mapping):
        return None
    inside = {str(key): value for key, value in found.items() if isinstance(value, Mapping) and value}
    named = next((inside[key] for key in WRAPPERS if key in inside), None)
    if named is not None:
        return named
    of_tensors = [value for key, value in inside.items() if all(isinstance(v, Tensor) for v in value.values())]
    return of_tensors[0] if len(of_tensors) == 1 else None


def _counted_out(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in weights.items() if key.rpartition(".")[2] not in _COUNTERS}


def fill(network: nn.Module, weights: Mapping[str, Tensor], what: str, fix: str) -> list[str]:
    """Put weights into a network whose names may differ by what stands before them.

    Args:
        network: is changed in place; its own dtype stays.
        weights: names and tensors, in any precision.
        what: whose weights are expected, for messages.
        fix: what to do when they do not fit.

    Returns:
        what was set aside or left as it was, in words.

    Raises:
        ForeignError: parameters that are missing, left over or of another shape.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 2))
        >>> fill(net, {"module.model.0.weight": torch.ones(2, 3).half(), "module.model.0.bias": torch.ones(2)}, "", "")
        []
    """
    own, weights = _counted_out(network.state_dict()), _counted_out(weights)
    given = dict(weights) if weights.keys() == own.keys() else _renamed(weights, list(own))
    parameters = {key for key, _ in network.named_parameters()} & own.keys()
    missing, extra = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    shapes = [f"{key} {tuple(given[key].shape)} where {tuple(own[key].shape)} is expected"
              for key in own.keys() & given.keys() if given[key].shape != own[key].shape]  # fmt: skip
    shapes += [f"{key} in {given[key].dtype} where {own[key].dtype} is expected".replace("torch.", "")
               for key in parameters & given.keys()
               if own[key].is_floating_point() and not given[key].is_floating_point()]  # fmt: skip
    lost = [key for key in missing if key in parameters]
    learned = [key for key in extra if key.rpartition(".")[2] in ("weight", "bias")]
    if lost or learned or shapes or len(missing) == len(own):
        said = [*shapes[:2], *(f"no {key}" for key in (lost or missing)[:3]), *(f"also {key}" for key in extra[:3])]
        raise ForeignError(f"WEIGHTS: expected the weights of {what}, got others ({'; '.join(said)}); {fix}")
    network.load_state_dict({key: given[key].to(own[key].dtype) for key in own.keys() & given.keys()}, strict=False)
    left = [f"{key} is not in the file and stays as it was made" for key in missing]
    return left + [f"{key} is in the file and not in the network" for key in extra]


def _renamed(weights: Mapping[str, Tensor], own: Sequence[str]) -> dict[str, Tensor]:
    """The weights under the network's names: the parts that all names of one side begin with are exchanged."""
    theirs, ours = _shared_start(list(weights)), _shared_start(own)
    for cut in range(len(theirs), -1, -1):
        for kept in range(len(ours), -1, -1):
            before, after = ".".join(theirs[:cut]), ".".join(ours[:kept])
            given = {_moved(key, before, after): value for key, value in weights.items()}
            if len(given.keys() & set(own)) > len(own) // 2:
                return given
    return dict(weights)


def _moved(key: str, before: str, after: str) -> str:
    rest = key.removeprefix(f"{before}.") if before else key
    return f"{after}.{rest}" if after else rest


def unprefixed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without what all their names begin with."""
    before = ".".join(_shared_start(list(weights)))
    return {_moved(key, before, ""): value for key, value in weights.items()}


def _shared_start(names: Sequence[str]) -> list[str]:
    """The dotted parts with which all names begin, such as ["module", "model"]."""
    split = [name.split(".")[:-1] for name in names]
    shared: list[str] = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def half_precision(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights were saved with sixteen bits."""
    return any(value.dtype in (torch.float16, torch.bfloat16) for value in weights.values())
