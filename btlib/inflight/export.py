"""A guard for where there is no btlib: torch.export and ONNX files that were tried before they are kept."""

import copy
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from btlib.files import written_whole
from btlib.inflight.checks import check_like
from btlib.inflight.features import pooled
from btlib.inflight.guard import Guard
from btlib.networks import Network, reference

#: The names of what an exported guard answers, in this order; `GuardedPrediction` says what they mean.
ANSWERS = ("label", "is_trigger", "predicted", "scores")
_TOLERANCE = 1e-5  # of the largest score: single precision, summed in another order
_Answers = Sequence[Tensor]


def export_guard(guard: Guard, path: str | Path, images: Tensor) -> Path:
    """Write a guard as one file for other programs, for batches of any size, and try it before it is kept.

    It takes float images (N, C, H, W) in [0, 1], named ``images``, and answers with four tensors: `ANSWERS`. It checks
    nothing: what calls it must. Its settings lie beside, as JSON: ONNX metadata ``guard``, or the extra file
    ``guard.json`` of a torch.export archive. Such an archive is unpickled when it is read, so read only your own; ONNX
    and `Guard.save` hold numbers only.

    Args:
        guard: what to export.
        path: the file, ``.onnx`` (needs ``pip install "btlib[onnx]"``) or ``.pt2``.
        images: a few, clean and triggered, on which both must say the same.

    Raises:
        ValueError: another ending, no images, a network that can't be exported, or whose export says otherwise.
        ModuleNotFoundError: ONNX is not installed.

    Example:
        >>> from btlib import checkpoints, datasets
        >>> from btlib.inflight import LikelihoodDetector
        >>> spec = checkpoints.shipped()["box"]
        >>> network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
        >>> images, labels = datasets.load("fashion-mnist").clean_images(2)
        >>> detector = LikelihoodDetector().fit(network, images, labels, target=9, trigger=trigger)
        >>> export_guard(Guard(network, detector), "guard.txt", images)
        Traceback (most recent call last):
        ...
        ValueError: path: expected a name that ends in .onnx or .pt2, got guard.txt; the ending says which form
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"path: expected a name that ends in {' or '.join(_WRITERS)}, got {path.name}; "
                         "the ending says which form")  # fmt: skip
    images = check_like(images, guard.settings.image_shape).to(reference(guard.network))
    if len(images) < 2:
        raise ValueError(f"images: expected at least two to try the export on, got {len(images)}; "
                         "take some clean and some triggered ones")  # fmt: skip
    plain = _Plain(guard, images)
    batch = torch.export.Dim("batch", max=2**31 - 1)  # torch 2.6 finds a limit of its own where none is named
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecated parts
            program = torch.export.export(plain, (images,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:  # the exporter raises a dozen classes
        raise ValueError(f"guard: expected a network that torch.export can follow, got {_first_line(error)}; "
                         "such a guard runs in Python only, see Guard.save") from error  # fmt: skip
    settings = json.dumps(asdict(guard.settings))
    with written_whole(path) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = _WRITERS[path.suffix](program, images, part, settings)
        for count in (1, len(images)):
            _same(guard(images[:count]), run(images[:count]), path)
    return path


class _Plain(nn.Module):
    """A guard as exporters can follow it: tensors in and out, hooks that stay, every image scored."""

    def __init__(self, guard: Guard, images: Tensor) -> None:
        super().__init__()
        self.network, self.scorer = copy.deepcopy(guard.network), copy.deepcopy(guard.scorer)
        self.settings, self.others = guard.settings, guard.others.clone()
        self.caught: Tensor | None = None
        place, takes_input = _place(self.network, guard.settings.layer, images[:1])
        module = self.network.get_submodule(place)
        if takes_input:
            module.register_forward_pre_hook(lambda module, args: self._catch(args[0]))
            self.width = cast(nn.Linear, module).in_features
        else:
            last = self.network.get_submodule(_place(self.network, "penultimate", images[:1])[0])
            self.width = cast(nn.Linear, last).in_features
            module.register_forward_hook(lambda module, args, output: self._catch(output))

    def _catch(self, activations: Tensor) -> None:
        self.caught = activations.clone()  # a later in-place layer may write over it

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = self.network(images)
        activations, self.caught = cast(Tensor, self.caught), None
        predicted, likelihoods = logits.argmax(1), self.scorer(pooled(activations, self.width).float())
        above, settings = likelihoods[:, :-1], self.settings
        scores = above.amax(1) - likelihoods[:, -1]
        scores = torch.where(predicted == settings.target, scores, -torch.inf)
        flagged = scores > settings.threshold
        return torch.where(flagged, self.others[above.argmax(1)], predicted), flagged, predicted, scores


def _place(network: nn.Module, layer: str, image: Tensor) -> tuple[str, bool]:
    """The submodule that holds a layer's features, and whether they are what it takes in."""
    if layer != "penultimate":
        return (network.place_of(layer) if isinstance(network, Network) else layer), False
    ran: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, module in network.named_modules() if isinstance(module, nn.Linear)
    ]  # fmt: skip
    with torch.no_grad():
        network(image)
    for hook in hooks:
        hook.remove()
    return ran[-1], True


# ------------------------------------------------------------------------------------------ the two forms


def _write_pt2(program: torch.export.ExportedProgram, images: Tensor, path: Path, settings: str) -> Callable:
    """Write and read back; what runs it."""
    with path.open("wb") as file:  # the writer wants a name of its own ending, or a file
        torch.export.save(program, file, extra_files={"guard.json": settings})
    with path.open("rb") as file:
        return torch.export.load(file).module()


def _write_onnx(program: torch.export.ExportedProgram, images: Tensor, path: Path, settings: str) -> Callable:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error.name}: expected for .onnx files, got nothing by that name; "
                                  'pip install "btlib[onnx]"', name=error.name) from error  # fmt: skip
    made: Any = torch.onnx.export(  # a program, since it is asked for with dynamo
        program, (images,), input_names=["images"], output_names=list(ANSWERS), dynamo=True, verbose=False
    )
    made.model.metadata_props["guard"] = settings
    made.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> _Answers:
        return [torch.from_numpy(each) for each in session.run(None, {"images": images.cpu().numpy()})]

    return run


_WRITERS = {".onnx": _write_onnx, ".pt2": _write_pt2}


def _same(ours: object, theirs: _Answers, path: Path) -> None:
    """Both say the same; a score as near the threshold as single precision can tell may fall on either side."""
    expected = [getattr(ours, name).cpu() for name in ANSWERS]
    got = [tensor.cpu() for tensor in theirs]
    scores = expected[3]
    finite = scores.isfinite()
    room = _TOLERANCE * max(1.0, float(scores[finite].abs().max()) if bool(finite.any()) else 0.0)
    if not torch.equal(expected[2], got[2]) or not torch.allclose(expected[3], got[3], rtol=0, atol=room):
        raise ValueError(f"guard: expected {path.name} to score images as the guard does, got other scores; "
                         "the network computes otherwise when exported")  # fmt: skip


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
