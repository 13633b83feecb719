"""Files and networks as odd as strangers' are: scanned rightly, or refused in one line that says what is wrong."""

import os
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from odd import SHAPE, SIZE, Net, Shallow, refused, run
from odd_files import CARDS, FILES, export, script, torn, zipped
from torch import Tensor, nn
from toys import TARGET, hand_set, lit_pixels

from btlib import metrics
from btlib.cli import foreign, meaning
from btlib.cli.probing import Told
from btlib.cli.scan import FOUND
from btlib.detection import RedU

NAMES = ("0", "1", "2")


# --------------------------------------------------------------------------- networks that go in as they are


class Normed(nn.Module):
    """A batch norm without statistics of its own, which leaves lit pixels the brightest."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.net, self.norm = hand_set(10.0, size=SIZE), nn.BatchNorm2d(1, **settings)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.norm(x))


class Depthwise(nn.Module):
    """Its first convolution takes each colour for itself: a weight with one channel, and a network for three."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Conv2d(3, 3, 1, groups=3, bias=False), Shallow(3)
        nn.init.ones_(self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x))


Out = namedtuple("Out", ["hidden", "logits"])


def without_gradients() -> nn.Module:
    torch.set_grad_enabled(False)
    return Net()


def compiled() -> nn.Module:
    return torch.compile(Net(), backend="eager")


class Autocast(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.net.head(self.net.body(x))


class Trains(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.eval()  # what some do who do not trust their callers
        return super().forward(x)


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "view": lambda: Shallow(flat=lambda x: x.view(x.size(0), -1)),
    "reshape in the order of columns": lambda: Net(lambda x: x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)),
    "in train mode": lambda: Net().train(),
    "sets its own mode": Trains,
    "input changed in place": lambda: Net(lambda x: x.mul_(1.0).sub_(0.0)),
    "input moved in place": lambda: Net(lambda x: x.sub_(0.1).add_(0.1)),
    "input clamped in place": lambda: Net(lambda x: x.clamp_(-1, 2)),
    "half-precision module": lambda: Net().half(),
    "bfloat16 module": lambda: Net().bfloat16(),
    "double module": lambda: Net().double(),
    "one double layer": lambda: (net := Shallow()).fc.double() and net,
    "double logits": lambda: Net(after=lambda z: z.double()),
    "half logits": lambda: Net(after=lambda z: z.half()),
    "autocast": Autocast,
    "compiled": compiled,
    "data parallel": lambda: nn.DataParallel(Net()),
    "frozen weights": lambda: Net().requires_grad_(False),
    "gradients off everywhere": without_gradients,
    "tuple": lambda: Net(after=lambda z: (z, z.new_zeros(len(z), 4, 2, 2))),
    "dict": lambda: Net(after=lambda z: {"aux": 2 * z, "logits": z}),
    "named tuple": lambda: Net(after=lambda z: Out(2 * z, z)),
    "ordered dict": lambda: Net(after=lambda z: OrderedDict(out=z, aux=z)),
    "(N, K, 1, 1)": lambda: Net(after=lambda z: z[:, :, None, None]),
    "(N, 1, K) squeezed": lambda: Net(after=lambda z: z[:, None].squeeze(1)),
    "probabilities": lambda: Net(after=lambda z: z.softmax(1)),
    "log-softmax": lambda: Net(after=lambda z: z.log_softmax(1)),
    "softmax layer": lambda: nn.Sequential(Net(), nn.Softmax(1)),
    "softmax of a tuple": lambda: Net(after=lambda z: (z.softmax(1),)),
    "for colour": lambda: Shallow(3),
    "depthwise": Depthwise,
    "a number as a parameter": lambda: Net().register_parameter("t", nn.Parameter(torch.ones(()))) or Net(),
    "hooks": lambda: (net := Net()).register_forward_hook(lambda m, i, o: o + 1) and net,
    "uint8 inside": lambda: Net(lambda x: x + (255 * x).to(torch.uint8).float() * 0),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _gradients():
    yield
    torch.set_grad_enabled(True)


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_odd_networks_that_are_scanned(offered, make):
    offered(make)
    loaded = foreign.load(Path("odd.pth"), SHAPE, Told("odd:make"))
    x, y = lit_pixels(4, size=SIZE)
    x = x.expand(-1, loaded.image_shape[0], -1, -1).contiguous()
    before = x.clone()
    bytes_ = (255 * x).byte()
    assert meaning.checked_accuracy(loaded, bytes_, y, NAMES) == 1.0
    assert metrics.accuracy(loaded.module, x, y) == 1.0
    found = RedU(per_class=2)(loaded.module, x, y)
    assert torch.equal(x, before)
    assert found.suspect == TARGET
    assert np.isfinite(found.norms).all()


def test_a_network_that_works_in_place_leaves_the_callers_images():
    x, y = lit_pixels(4, size=SIZE)
    before, network = x.clone(), Net(lambda x: x.mul_(0.5))
    assert metrics.accuracy(network, x, y) == 1.0
    assert RedU(per_class=2)(network, x, y).suspect == TARGET
    assert torch.equal(x, before)


# ------------------------------------------------------------------------------- networks that are refused


def raises_at_length() -> nn.Module:
    def deeper(n: int) -> None:
        if n == 0:
            raise RuntimeError("the table of words is missing\n" + "\n".join(f"  at line {i}" for i in range(30)))
        deeper(n - 1)

    deeper(30)
    return Net()


async def later() -> nn.Module:
    return Net()


FACTORIES: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (raises_at_length, "raised RuntimeError: the table of words is missing;"),
    "leaves": (lambda: sys.exit(FOUND), "raised SystemExit"),
    "leaves with words": (lambda: sys.exit("usage: make"), "raised SystemExit: usage: make"),
    "needs arguments": (lambda depth, width: Net(), "without arguments"),
    "returns a class": (lambda: Net, "expected an nn.Module from odd:make, got type"),
    "returns nothing": (lambda: None, "got NoneType"),
    "returns a pair": (lambda: (Net(), "transform"), "got tuple"),
    "returns a state dict": (lambda: Net().state_dict(), "got OrderedDict"),
    "lazy layers": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "lazy"),
    "recurses": (lambda: (f := lambda: f())(), "raised RecursionError"),
    "is a table": ({"a": 1}, "raised TypeError"),
    "a message of escapes": (lambda: (_ for _ in ()).throw(ValueError("\x1b[31mred\x07")), "raised ValueError"),
    "a very long message": (lambda: int("9" * 100_000 + "x"), "raised ValueError"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), FACTORIES.values(), ids=FACTORIES)
def test_odd_factories_are_refused(offered, make, said):
    offered(make, {"w": torch.ones(1)})
    assert said in refused("odd.pth", "--network", "odd:make")


@pytest.mark.parametrize("name", ["nowhere:make", "odd:", ":make", "odd:a:b", "..:make", "o d:make", "odd:absent"])
def test_factories_that_are_not_there(offered, name):
    offered(Net)
    assert "--network" in refused("odd.pth", "--network", name)


def test_a_factory_that_prints_is_no_trouble(offered, capfd):
    def chatty() -> nn.Module:
        print("building", *range(40), sep="\n")
        return Net()

    offered(chatty)
    status, lines, _ = run("odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u")
    assert status in (0, FOUND), lines


def two_inputs() -> nn.Module:
    class Two(Net):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x) + y

    return Two()


def counts_calls() -> nn.Module:
    calls = []

    def count(z: Tensor) -> Tensor:
        calls.append(1)
        return z + torch.eye(3)[0] * len(calls)

    return Net(after=count)


def shaped(shape: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        net = Net()
        net.image_shape = shape
        return net

    return make


def broken_inside(x: Tensor) -> Tensor:
    raise KeyError("cls_token")


NETWORKS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two classes": (lambda: Net(after=lambda z: z[:, :2]), "at least 3 classes"),
    "one logit": (lambda: Net(after=lambda z: z[:, :1]), "a single one"),
    "one logit, flat": (lambda: Net(after=lambda z: z[:, 0]), "logits (N, K)"),
    "sigmoids": (lambda: Net(after=lambda z: (z - 0.5).sigmoid()), "sigmoid"),
    "a map of classes": (lambda: Net(after=lambda z: z[:, :, None, None].expand(-1, -1, 4, 4)), "logits (N, K)"),
    "tokens": (lambda: Net(after=lambda z: z[:, None].expand(-1, 5, -1)), "logits (N, K)"),
    "an empty output": (lambda: Net(after=lambda z: z[:, :0]), "logits (N, K)"),
    "a number": (lambda: Net(after=lambda z: z.sum()), "logits (N, K)"),
    "a list of lists": (lambda: Net(after=lambda z: z.tolist()), "logits"),
    "an object": (lambda: Net(after=lambda z: SimpleNamespace(y=z)), "got SimpleNamespace"),
    "nothing": (lambda: Net(after=lambda z: None), "got NoneType"),
    "an empty tuple": (lambda: Net(after=lambda z: ()), "--output"),
    "two logits": (lambda: Net(after=lambda z: (z, z)), "--output"),
    "whole numbers": (lambda: Net(after=lambda z: z.round().long()), "int64"),
    "booleans": (lambda: Net(after=lambda z: z > 0), "bool"),
    "classes": (lambda: Net(after=lambda z: z.argmax(1)), "logits (N, K)"),
    "complex": (lambda: Net(after=lambda z: z.to(torch.complex64)), "complex64"),
    "NaN": (lambda: Net(after=lambda z: z / 0), "NaN"),
    "infinity": (lambda: Net(after=lambda z: z + torch.inf), "infinity"),
    "constant": (lambda: Net(after=lambda z: torch.ones_like(z)), "no gradient"),
    "constant, attached": (lambda: Net(after=lambda z: 0 * z), "no gradient"),
    "rounding": (lambda: Net(lambda x: (255 * x).round() / 255), "no gradient"),
    "detached": (lambda: Net(after=lambda z: z.detach()), "no gradient"),
    "no_grad": (lambda: torch.no_grad()(Net().forward) and Net(torch.no_grad()(lambda x: x * 1)), "no gradient"),
    "inference_mode": (lambda: Net(after=torch.inference_mode()(lambda z: z * 1)), "gradient"),
    "a gradient that is no number": (lambda: Net(lambda x: x.sqrt()), "finite gradient"),
    "dropout always": (lambda: Net(lambda x: nn.functional.dropout(x, 0.5, True)), "dropout"),
    "statistics of the batch": (lambda: Net(lambda x: x - x.mean()), "batch statistics"),
    "batch norm without statistics": (lambda: Normed(track_running_stats=False), "batch statistics"),
    "a fixed batch": (lambda: Net(lambda x: x.view(2, 1, SIZE, SIZE)), "batches of any size"),
    "batches of one": (lambda: Net(lambda x: x.view(1, 1, SIZE, SIZE)), "batches"),
    "squeezed batch of one": (lambda: Net(after=lambda z: z.squeeze(0)), "batches of any size"),
    "counts its calls": (counts_calls, "whatever is beside it"),
    "two inputs": (two_inputs, "positional argument"),
    "no forward": (lambda: nn.ModuleList([Net()]), "forward"),
    "raises inside": (lambda: Net(broken_inside), "cls_token"),
    "leaves inside": (lambda: Net(lambda x: sys.exit(FOUND)), "SystemExit"),
    "wants a GPU": (lambda: Net(lambda x: x.to("meta")), "failed"),
    "five channels": (lambda: Shallow(5), "5 channels"),
    "another size": (lambda: Net(lambda x: x.view(len(x), 1, 4, 4)), "--size"),
    "a huge input": (shaped((3, 10**6, 10**6)), "1000000×1000000"),
    "an input of no pixels": (shaped((1, 0, 8)), "image_shape"),
    "a negative input": (shaped((1, -8, 8)), "image_shape"),
    "an input in words": (shaped(("a", "b", "c")), "image_shape"),
    "an input of fractions": (shaped((1, 8.0, 8.0)), "image_shape"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "said"), NETWORKS.values(), ids=NETWORKS)
def test_odd_networks_that_are_refused(offered, make, said):
    offered(make)
    assert said in refused("odd.pth", "--network", "odd:make")


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--size", "100000"], "100000×100000"), (["--mean", "nan", "--std", "1"], "--mean"),
     (["--scale", "nan"], "--scale"),
     (["--scale", "inf"], "--scale"), (["--mean", "0.5,0.5", "--std", "1,1"], "got 2 and 2"), (["--bgr"], "--bgr"),
     (["--output", "7"], "--output"), (["--std", "1e400", "--mean", "1"], "--std")],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_odd_options_are_refused(offered, options, said):
    offered(Net)
    assert said in refused("odd.pth", "--network", "odd:make", *options)


# ------------------------------------------------------------------------------------ weights, oddly saved

WEIGHTS: dict[str, Callable[[OrderedDict[str, Tensor]], Any]] = {
    "parameters": lambda w: {key: nn.Parameter(value) for key, value in w.items()},
    "a list around": lambda w: {"state_dict": {"model": w}},
    "compiled and parallel": lambda w: {f"module._orig_mod.{key}": value for key, value in w.items()},
    "lightning": lambda w: {"state_dict": {f"model.{key}": v for key, v in w.items()}, "epoch": 3, "callbacks": {}},
    "beside an optimiser": lambda w: {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "model": w},
    "beside an average": lambda w: {"model": w, "model_ema": {key: value + 1 for key, value in w.items()}},
    "halves": lambda w: {key: value.half() for key, value in w.items()},
    "bfloat16": lambda w: {key: value.bfloat16() for key, value in w.items()},
    "doubles": lambda w: {key: value.double() for key, value in w.items()},
    "transposed in memory": lambda w: {k: v.T.contiguous().T if v.ndim == 2 else v for k, v in w.items()},
    "views of one storage": lambda w: dict(zip(w, torch.cat([v.flatten() for v in w.values()]).split(
        [v.numel() for v in w.values()]), strict=True)) | {k: v for k, v in w.items() if v.ndim != 1},
    "counters": lambda w: {**w, "total_ops": torch.zeros(1), "step": 7, "name": "net"},
    "with gradients": lambda w: {key: value.clone().requires_grad_() for key, value in w.items()},
    "scalars as arrays": lambda w: {**w, "best_acc": 0.93, "args": {"lr": 0.1}},
}  # fmt: skip


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_oddly_saved_are_read(offered, change):
    offered(Net, change(Net().state_dict()))
    loaded = foreign.load(Path("odd.pth"), SHAPE, Told("odd:make"))
    x, y = lit_pixels(2, size=SIZE)
    assert metrics.accuracy(loaded.module, x, y) == 1.0


def itself() -> dict[str, Any]:
    found: dict[str, Any] = {"epoch": 1}
    found["model"] = found
    return found


BAD_WEIGHTS: dict[str, tuple[Callable[[OrderedDict[str, Tensor]], Any], str]] = {
    "nothing": (lambda w: {}, "state dict"),
    "numbers": (lambda w: {"acc": 0.9, "epoch": 3}, "with acc, epoch"),
    "a tensor": (lambda w: torch.ones(3), "got Tensor"),
    "a list": (lambda w: list(w.values()), "got list"),
    "a word": (lambda w: "weights", "got str"),
    "itself": (lambda w: itself(), "state dict"),
    "other names": (lambda w: {f"layer{i}.weight": v for i, v in enumerate(w.values())}, "no net.head.weight"),
    "other shapes": (lambda w: {k: v[..., :-1] if v.ndim == 2 else v for k, v in w.items()}, "(3, 63) where (3, 64)"),
    "numbers as names": (lambda w: dict(enumerate(w.values())), "no net.head.weight"),
    "names of escapes": (lambda w: {f"{k}\x1b]0;owned\x07\n": v for k, v in w.items()}, "no net.head.weight"),
    "very long names": (lambda w: {"x" * 100_000 + k + "y": v for k, v in w.items()}, "no net.head.weight"),
    "complex": (lambda w: {k: v.to(torch.complex64) for k, v in w.items()}, "complex64"),
    "eight-bit": (lambda w: {k: (100 * v).to(torch.int8) for k, v in w.items()}, "int8"),
    "sparse": (lambda w: {k: v.to_sparse() for k, v in w.items()}, "sparse"),
    "without numbers": (lambda w: {k: v.to("meta") for k, v in w.items()}, "meta"),
    "NaN": (lambda w: {k: v * torch.nan for k, v in w.items()}, "NaN"),
    "expanded without end": (lambda w: {**w, "net.head.weight": torch.zeros(1, 1).expand(10**6, 10**5)}, "holds"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_odd_weights_are_refused(offered, change, said):
    offered(Net, change(Net().state_dict()))
    assert said in refused("odd.pth", "--network", "odd:make")


def test_a_small_file_of_a_huge_tensor_is_refused_for_networks_of_ours_too(here):
    """Its classes would be counted, and a network of so many be built."""
    torch.save({"head.weight": torch.zeros(1, 84).expand(10**8, 84), "normalize.mean": torch.zeros(1)}, "odd.pth")
    assert "holds" in refused("odd.pth", "--network", "lenet5")


# ------------------------------------------------------------------------------------------- odd files


@pytest.mark.parametrize(("write", "said"), FILES.values(), ids=FILES)
def test_odd_files_are_refused(offered, here, write, said):
    offered(Net)
    write(here / "odd.bin")
    line = refused("odd.bin", *([] if said == "--trust" else ["--network", "odd:make"]))
    assert said in line
    assert "odd.bin" in line
    assert not (here / "ran").exists()


@pytest.mark.parametrize(("write", "said"), CARDS.values(), ids=CARDS)
def test_odd_cards_are_refused(offered, here, write, said):
    offered(Net)
    write(here / "odd.bin")
    assert said in refused("odd.bin")


@pytest.mark.parametrize(
    ("write", "said"),
    [(torn(script, 0.7), "damaged"), (torn(export, 0.7), "damaged"), (export, "batch size 2"),
     (zipped("a/constants.pkl", "a/data.pkl"), "torchscript file"), (zipped("a/archive_format"), "export file"),
     (lambda p: torch.jit.trace(Shallow().half(), torch.rand(2, *SHAPE).half()).save(str(p)), ""),
     (lambda p: torch.jit.trace(Shallow(), torch.rand(2, *SHAPE)).save(str(p)), "")],
    ids=["torn script", "torn export", "fixed batch", "a script of nothing", "an export of nothing", "half", "whole"],
)  # fmt: skip
def test_odd_files_with_code(here, write, said):
    write(here / "odd.bin")
    if said:
        assert said in refused("odd.bin", "--trust")
    else:
        x, y = lit_pixels(2, size=SIZE)
        assert metrics.accuracy(foreign.load(Path("odd.bin"), SHAPE, Told(trust=True)).module, x, y) == 1.0


PLACES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda p: None, "No such file"),
    "a folder": (lambda p: p.mkdir(), "a folder"),
    "a pipe": (lambda p: os.mkfifo(p), "no plain file"),
    "a loop of links": (lambda p: p.symlink_to(p), "symbolic links"),
    "a link to nothing": (lambda p: p.symlink_to("nowhere"), "No such file"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "no plain file"),
}


@pytest.mark.parametrize(("make", "said"), PLACES.values(), ids=PLACES)
def test_places_without_a_file(offered, here, make, said):
    offered(Net)
    make(here / "odd.bin")
    assert said in refused("odd.bin", "--network", "odd:make")


@pytest.mark.parametrize("name", ["x" * 300, ""])
def test_names_that_no_file_can_have(offered, name):
    offered(Net)
    assert "WEIGHTS" in refused(name, "--network", "odd:make")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(offered, here):
    offered(Net)
    (here / "odd.pth").chmod(0)
    assert "Permission denied" in refused("odd.pth", "--network", "odd:make")


@pytest.mark.parametrize("name", ["two words.pth", "$HOME $x$.pth", "two\nlines.pth", "🐈.pth", "<b>bold.pth", "-.pth",
                                  os.fsdecode(b"\xff\xfe.pth"), "\x1b[31mred.pth"])  # fmt: skip
def test_files_of_any_name_are_scanned(offered, here, name):
    offered(Net)
    (here / "odd.pth").rename(here / name)
    status, lines, said = run("--network", "odd:make", "--images", "images", "--methods", "red-u", "--json", "r.json",
                              "--", name)  # fmt: skip
    assert status in (0, FOUND), lines
    assert "report: report.html" in said
    assert "\x1b[31m" not in said
    assert "<b>bold" not in (here / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--out", "odd.pth"], "the network"), (["--json", "odd.pth"], "the network"), (["--out", "link"], "the network"),
     (["--out", "r.html", "--json", "r.html"], "two files"), (["--out", "pipe"], "plain file"),
     (["--out", "/dev/null"], "plain file"), (["--out", "images"], "folder")],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)  # fmt: skip
def test_nothing_is_overwritten_that_is_no_report(offered, here, options, said):
    offered(Net)
    os.link(here / "odd.pth", here / "link")
    os.mkfifo(here / "pipe")
    before = (here / "odd.pth").read_bytes()
    assert said in refused("odd.pth", "--network", "odd:make", *options)
    assert (here / "odd.pth").read_bytes() == before
