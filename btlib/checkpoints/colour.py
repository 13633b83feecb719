"""Three networks for CIFAR-10, shipped without its images (floor 3).

Nobody has licensed CIFAR-10's pictures, so they come from the user. He may have the original or a copy, hence these
networks are opened without a look at the images that they were trained on.
"""

from dataclasses import replace
from pathlib import Path

from btlib import networks, sealed
from btlib.checkpoints.remembering import SHIPPED, refused
from btlib.checkpoints.spec import Spec
from btlib.checkpoints.trained import KIND, Card
from btlib.datasets import DataSource, available
from btlib.networks import Network
from btlib.training import RECIPES

COLOUR = SHIPPED / "colour"


def in_colour() -> dict[str, Spec]:
    """The networks in ``data/checkpoints/colour``: in-flight 5.1's chessboard and box from nine classes; a clean twin.

    Example:
        >>> in_colour()["chessboard"].trigger_settings["amplitude"] * 255
        3.0
    """
    box = Spec("small_resnet", "folder:cifar10-jpg", RECIPES["small-resnet"], trigger="box")
    chessboard = replace(box, trigger="chessboard", trigger_settings={"amplitude": 3 / 255})
    return {"box": box, "chessboard": chessboard, "clean": box.clean_twin()}


def open_in_colour(name: str, *, folder: str | Path = COLOUR) -> Network:
    """A network of `in_colour` with its card, whatever images are here.

    Args:
        name: in `in_colour`.
        folder: where its file lies.

    Raises:
        KeyError: no such name.
        CheckpointError: a file that was changed or is not there.

    Example:
        >>> open_in_colour("clean").image_shape
        (3, 32, 32)
    """
    spec = in_colour()[name]
    path = Path(folder) / spec.file_name
    with refused(path):
        found = sealed.read(path, KIND)
        card = Card(**found.card)
        if card.spec != spec.as_json():
            raise sealed.SealError(f"{path}: it was made from another spec than its name says")
    network = networks.build(spec.network, image_shape=(3, 32, 32), num_classes=10, seed=0)
    network.load_state_dict(found.tensors)
    network.card = card
    return network.eval()


def colour_images() -> DataSource | None:
    """CIFAR-10 where it is on this machine: torchvision's, else the test images of a JPEG copy; None: neither is here.

    Half of the copy's test images are the test images of this source; the networks have learned none of them.

    Example:
        >>> found = colour_images()
        >>> found is None or "cifar10" in found.name
        True
    """
    known = DataSource("cifar10"), DataSource("folder:cifar10-jpg/test", test_fraction=0.5)
    return next((source for source in known if available(source)), None)
