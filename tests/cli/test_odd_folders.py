"""Folders as odd as file managers and cameras leave them: read rightly, or refused in one line that names the fault."""

import os
import resource
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd import SHAPE, SIZE, Net, refused, run
from odd_files import png_of
from PIL import Image
from toys import hand_set, lit_pixels

from btlib import datasets
from btlib.cli import scan_images
from btlib.cli.scan import FOUND

DARK = Image.new("L", (SIZE, SIZE))

# ------------------------------------------------------------------------------------- what is read as it should


def read(folder: Path) -> scan_images.CleanImages:
    with warnings.catch_warnings(action="error"):
        warnings.filterwarnings("ignore", "Corrupt EXIF")
        return scan_images.read(scan_images.find(str(folder)), SHAPE, 99, seed=0)


def saved(folder: Path, name: str, picture: Image.Image, **options: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    picture.save(folder / name, **options)


def array(value: Any, dtype: Any = np.float32) -> Image.Image:
    return Image.fromarray(np.full((SIZE, SIZE), value, dtype))


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


#: What is put beside six pictures of three classes without being one itself.
LEFT_ALONE: dict[str, Callable[[Path], Any]] = {
    "a hidden folder": lambda f: saved(f, ".git/a.png", DARK),
    "__MACOSX": lambda f: saved(f, "__MACOSX/0/._0.png", DARK),
    "resource forks": lambda f: (f / "0" / "._0.png").write_bytes(b"\0\5\x16\7"),
    "what file managers write": lambda f: [
        (f / "0" / name).touch() for name in (".DS_Store", "Thumbs.db", "desktop.ini")],
    "words": lambda f: [(f / place / "labels.csv").write_text("0,cat") for place in (".", "1")],
    "a hidden folder in a class": lambda f: saved(f, "0/.cache/a.png", DARK),
    "an empty folder in a class": lambda f: (f / "0" / "later").mkdir(),
    "a folder called like a picture": lambda f: (f / "0" / "a.png").mkdir(),
    "kinds of pictures that are not read": lambda f: DARK.save(f / "0" / "a.gif"),
    "a picture beside the classes": lambda f: DARK.save(f / "a.png"),
    "a link that leads back": lambda f: (f / "0" / "again").symlink_to(f / "0"),
    "links that lead to one another": lambda f: [(f / "0" / str(n)).symlink_to(f / "0") for n in range(12)],
}  # fmt: skip


@pytest.mark.parametrize("add", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_no_picture_of_a_class_is_left_alone(here, add):
    add(here / "images")
    images = read(here / "images")
    assert images.y.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.x[:, 0, 0].argmax(1).tolist() == images.y.tolist()
    assert images.changes == ""
    assert datasets.load(f"folder:{here / 'images'}", size=SIZE, channels=1).classes == ("0", "1", "2")


def moved(*parts: str) -> Callable[[Path], Any]:
    """The classes below other folders, with a wrong class in the folder for training."""

    def move(folder: Path) -> None:
        *others, last = parts
        (folder.parent / "kept").mkdir()
        folder.rename(folder.parent / "kept" / last)
        (folder.parent / "kept").rename(folder)
        for other in others:
            for label in "012":
                saved(folder, f"{other}/{label}/a.png", array(9, np.uint8))

    return move


LAYOUTS: dict[str, Callable[[Path], Any]] = {
    "train and test": moved("train", "test"),
    "train and val": moved("train", "val"),
    "Train and VALID": moved("Train", "VALID"),
    "train, val and test": moved("train", "val", "test"),
    "deeper": lambda f: [(f / c / "2024").mkdir() or [p.rename(f / c / "2024" / p.name) for p in (f / c).glob("*.png")]
                         and DARK.save(f / c / "a.gif") or saved(f, f"{c}/x.png", lit(int(c))) for c in "012"],
    "linked classes": lambda f: [(f / c).rename(f.parent / c) and (f / c).symlink_to(f.parent / c) for c in "012"],
    "linked pictures": lambda f: [p.rename(f.parent / p.name) and p.symlink_to(f.parent / p.name)
                                  for p in f.rglob("*.png")],
    "endings in capitals": lambda f: [p.rename(p.with_suffix(".PNG")) for p in f.rglob("*.png")],
    "another kind than the ending says": lambda f: [Image.open(p).save(p, "BMP") for p in f.rglob("*.png")],
    "interlaced": lambda f: [Image.open(p).convert("P").save(p, interlace=1) for p in f.rglob("*.png")],
    "one image a class": lambda f: [next((f / c).glob("*.png")).unlink() for c in "012"],
    "unequal classes": lambda f: [saved(f, f"2/{i}.png", lit(2)) for i in range(20, 30)],
}  # fmt: skip


def lit(label: int) -> Image.Image:
    return Image.fromarray((255 * lit_pixels(1, size=SIZE)[0][label, 0]).byte().numpy())


@pytest.mark.parametrize("change", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_that_are_read(here, change):
    change(here / "images")
    images = read(here / "images")
    assert images.x[:, 0, 0].argmax(1).tolist() == images.y.tolist()
    assert sorted(set(images.y.tolist())) == [0, 1, 2]


LEFT_BLACK = Image.fromarray(np.repeat([[0, 0, 0, 0, 200, 200, 200, 200]], SIZE, 0).astype(np.uint8))
#: How a picture is saved, what is said, and its pixel at the top left (within two levels).
PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any], str, int]] = {
    "grey": (array(77, np.uint8), "png", {}, "", 77),
    "colour": (Image.new("RGB", (SIZE, SIZE), (77, 77, 77)), "png", {}, "turned grey", 77),
    "palette": (Image.new("RGB", (SIZE, SIZE), (77, 77, 77)).quantize(4), "png", {}, "turned grey", 77),
    "palette to see through": (
        Image.new("P", (SIZE, SIZE)), "png", {"transparency": 0}, "turned grey, laid on white", 255),
    "black to see through": (Image.new("RGBA", (SIZE, SIZE)), "png", {}, "turned grey, laid on white", 255),
    "grey to see through": (Image.new("LA", (SIZE, SIZE), (0, 0)), "png", {}, "laid on white", 255),
    "one bit": (Image.new("1", (SIZE, SIZE), 1), "png", {}, "", 255),
    "sixteen bits": (array(257 * 77, np.uint16), "png", {}, "scaled to eight bits", 77),
    "32 bits": (array(257 * 77, np.int32), "tif", {}, "scaled to eight bits", 77),
    "fractions": (array(77 / 255), "tiff", {}, "scaled to eight bits", 77),
    "CMYK": (Image.new("CMYK", (SIZE, SIZE), (0, 0, 0, 178)), "jpg", {}, "turned grey", 77),
    "YCbCr": (Image.new("YCbCr", (SIZE, SIZE), (77, 128, 128)), "jpg", {}, "turned grey", 77),
    "progressive": (array(77, np.uint8), "jpeg", {"progressive": True}, "", 77),
    "several pages": (array(77, np.uint8), "tif", {"save_all": True, "append_images": [DARK]}, "", 77),
    "animated": (Image.new("RGB", (SIZE, SIZE), (77, 77, 77)), "webp",
                 {"save_all": True, "append_images": [Image.new("RGB", (SIZE, SIZE))], "lossless": True},
                 "turned grey", 77),
    "portable": (array(77, np.uint8), "pgm", {}, "", 77),
    "one pixel": (Image.new("L", (1, 1), 77), "png", {}, "resized from 1×1 to 8×8", 77),
    "a line": (Image.new("L", (900, 1), 77), "png", {}, "resized from 1×900 to 8×8", 77),
    "on its side": (LEFT_BLACK, "png", {"exif": orientation(3)}, "turned upright", 200),
    "on its side, JPEG": (LEFT_BLACK, "jpg", {"exif": orientation(3), "quality": 100}, "turned upright", 200),
    "mirrored": (LEFT_BLACK, "png", {"exif": orientation(2)}, "turned upright", 200),
    "mirrored, TIFF": (LEFT_BLACK, "tif", {"exif": orientation(2)}, "", 200),  # as it is always read
    "upright": (LEFT_BLACK, "png", {"exif": orientation(1)}, "", 0),
    "held in no way there is": (LEFT_BLACK, "png", {"exif": orientation(77)}, "", 0),
    "broken EXIF": (LEFT_BLACK, "jpg", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12", "quality": 100}, "", 0),
}  # fmt: skip


@pytest.mark.parametrize(("picture", "ending", "options", "changes", "value"), PICTURES.values(), ids=PICTURES)
def test_pictures_of_all_kinds_become_what_is_seen(tmp_path, picture, ending, options, changes, value):
    for name in "012":
        saved(tmp_path, f"{name}/a.{ending}", picture, **options)
    images = read(tmp_path)
    assert images.changes == changes
    assert abs(int(images.x[0, 0, 0, 0]) - value) <= 2


def test_a_photograph_on_its_side_has_the_upright_shape(tmp_path):
    for ending, said in (("jpg", "turned upright"), ("tif", "")):
        for name in "012":
            saved(tmp_path / ending, f"{name}/a.{ending}", Image.new("RGB", (20, 10)), exif=orientation(6))
        origin = scan_images.find(str(tmp_path / ending))
        assert origin.native == (3, 20, 10)
        assert scan_images.read(origin, (3, 20, 10), 9, seed=0).changes == said


@pytest.mark.parametrize("name", ["$\\frac{$", "<b>bold", "a b", "Größe", "猫", "🐈", "-x", "\x1b[31mred", "two\nlines",
                                  "{{ 7 * 7 }}", os.fsdecode(b"\xff\xfe"), "x" * 250, "%(a)s", "'\""])  # fmt: skip
def test_classes_of_any_name_are_scanned(offered, here, name):
    offered(Net)
    (here / "images" / "2").rename(here / "images" / "9")
    (here / "images" / "9").rename(here / "images" / name)
    names = sorted(["0", "1", name])
    at = [names.index(n) for n in ("0", "1", name)]
    weights = Net().state_dict()
    weights["net.head.weight"] = weights["net.head.weight"][[at.index(k) for k in range(3)]]
    offered(Net, weights)
    status, lines, said = run(
        "odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u", "--json", "r"
    )
    assert status in (0, FOUND), lines
    assert "report: report.html" in said, lines
    assert "\x1b" not in said
    assert "<b>bold" not in (here / "report.html").read_text()


# --------------------------------------------------------------------------------------- what is refused


def file(content: bytes, name: str = "0/a.png") -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def cut(ending: str, part: float = 0.6) -> Callable[[Path], Any]:
    def write(folder: Path) -> None:
        path = folder / "0" / f"a.{ending}"
        noise = np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])

    return write


def emptied(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [path.unlink() for name in names for path in (folder / name).iterdir()]


def removed(*names: str) -> Callable[[Path], Any]:
    return lambda folder: [emptied(name)(folder) and (folder / name).rmdir() for name in names]


def photographs(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.new("L", (1500, 2000)).save(path)


def inside(*names: str) -> Callable[[Path], Any]:
    """All of it one or more folders deeper."""

    def move(folder: Path) -> None:
        folder.rename(folder.parent / "moved")
        folder.joinpath(*names[:-1]).mkdir(parents=True)
        (folder.parent / "moved").rename(folder.joinpath(*names))

    return move


def swapped(folder: Path) -> None:
    for before, after in (("0", "x"), ("1", "0"), ("x", "1")):
        (folder / before).rename(folder / after)


def confused(folder: Path) -> None:
    """Every class holds pictures of all."""
    for label in "012":
        for other in range(3):
            saved(folder, f"{label}/{other}.png", lit(other))
            saved(folder, f"{label}/{other + 3}.png", lit(other))


BAD_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda f: removed("0", "1", "2")(f), "no subfolders"),
    "flat": (lambda f: removed("0", "1", "2")(f) and DARK.save(f / "a.png"), "no subfolders"),
    "an empty class": (emptied("1"), "no images in 1"),
    "a class of words": (lambda f: emptied("1")(f) and (f / "1" / "a.txt").write_text("cat"), "no images in 1"),
    "a class of animated pictures": (lambda f: emptied("1")(f) and DARK.save(f / "1" / "a.gif"), "no images in 1"),
    "one class": (removed("1", "2"), "expected 3 classes"),
    "two classes": (removed("2"), "expected 3 classes"),
    "a class too many": (lambda f: saved(f, "3/a.png", DARK), "expected 3 classes"),
    "for training only": (inside("train"), "train holds only folders (0, 1, 2"),
    "doubled": (inside("images"), "images holds only folders"),
    "much deeper": (inside("a", "b", "c"), "a holds only folders"),
    "a class of folders": (lambda f: [(f / "0" / "x").mkdir(), *(
        p.rename(f / "0" / "x" / p.name) for p in (f / "0").glob("*.png"))], "0 holds only folders"),
    "nothing in the file": (file(b""), "0/a.png"),
    "words called picture": (file(b"no picture"), "0/a.png"),
    "a page called picture": (file(b"<html>404", "0/a.jpg"), "0/a.jpg"),
    "a cut JPEG": (cut("jpg"), "0/a.jpg"),
    "a cut PNG": (cut("png"), "0/a.png"),
    "a PNG without an end": (cut("png", 0.98), "0/a.png"),
    "a cut BMP": (cut("bmp"), "0/a.bmp"),
    "a cut WebP": (cut("webp"), "0/a.webp"),
    "a cut TIFF": (cut("tif", 0.3), "0/a.tif"),
    "a cut PPM": (cut("ppm"), "0/a.ppm"),
    "a TIFF of odd tags": (file(b"II*\0\x08\0\0\0\xff\xff" + bytes(range(256)) * 9, "0/a.tif"), "0/a.tif"),
    "30000 by 30000": (file(png_of(30_000, 30_000)), "0/a.png"),
    "all the pixels there are": (file(png_of(2**31 - 1, 2**31 - 1)), "0/a.png"),
    "no pixels": (file(png_of(0, 0)), "0/a.png"),
    "a bomb of words": (file(png_of(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**27))))), "0/a.png"),
    "photographs": (photographs, "--size"),
    "a pipe": (lambda f: os.mkfifo(f / "0" / "a.png"), "a pipe"),
    "a device": (lambda f: (f / "0" / "a.png").symlink_to("/dev/zero"), "device"),
    "a link to nothing": (lambda f: (f / "0" / "a.png").symlink_to("nowhere"), "0/a.png"),
    "a link to itself": (lambda f: (f / "0" / "a.png").symlink_to("a.png"), "0/a.png"),
    "negative fractions": (lambda f: saved(f, "0/a.tif", array(-1.0)), "says no scale"),
    "large fractions": (lambda f: saved(f, "0/a.tif", array(255.0)), "says no scale"),
    "fractions that are no numbers": (lambda f: saved(f, "0/a.tif", array(np.nan)), "says no scale"),
    "32 bits below zero": (lambda f: saved(f, "0/a.tif", array(-7, np.int32)), "says no scale"),
    "classes swapped": (swapped, "the images called 0 look like output 1 (called 1), those called 1 like output 0"),
    "classes confused": (confused, "as if it guessed"),
    "negatives": (lambda f: [Image.eval(Image.open(p), lambda v: 255 - v).save(p) for p in f.rglob("*.png")], "--"),
    "all alike": (lambda f: [DARK.save(p) for p in f.rglob("*.png")], "as if it guessed"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_odd_folders_are_refused(offered, here, change, said):
    offered(Net)
    change(here / "images")
    assert said in refused("odd.pth", "--network", "odd:make")


PLACES: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda p: None,
    "a file": lambda p: p.write_text("pictures"),
    "a pipe": os.mkfifo,
    "a link to nothing": lambda p: p.symlink_to("nowhere"),
    "a link to itself": lambda p: p.symlink_to(p),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_places_without_a_folder(offered, here, make):
    offered(Net)
    make(here / "pictures")
    for name in ("pictures", "folder:pictures"):
        status, lines, _ = run("odd.pth", "--network", "odd:make", "--images", name)
        assert (status, len(lines)) == (2, 1)
        assert "pictures" in lines[0]


@pytest.mark.parametrize(
    "name", ["x" * 5000, "folder:", "~nobody/x", "mnist:", "https://example.org/images.zip", "a:b"]
)
def test_names_of_no_folder(offered, here, name):
    offered(Net)
    status, lines, _ = run("odd.pth", "--network", "odd:make", "--images", name)
    assert (status, len(lines)) == (2, 1)


def test_classes_by_number_meet_folders_in_the_order_of_text(offered, here):
    """Twelve folders 0 … 11, which sort as 0, 1, 10, 11, 2; a network trained by number is told from it."""
    offered(lambda: hand_set(0.0, num_classes=12, size=12))
    for picture, label in zip(*lit_pixels(2, num_classes=12, size=12), strict=True):
        saved(here / "many", f"{int(label)}/a.png", Image.fromarray((255 * picture[0]).byte().numpy()))
    status, lines, _ = run("odd.pth", "--network", "odd:make", "--images", "many")
    assert (status, len(lines)) == (2, 1)
    assert "the images called 10 look like output 10 (called 8)" in lines[0]
    (here / "order.txt").write_text("\n".join(map(str, range(12))))
    status, _, said = run(
        "odd.pth", "--network", "odd:make", "--images", "many", "--classes", "order.txt", "--methods", "red-u"
    )
    assert status in (0, FOUND)
    assert "100.0 % classified as labelled" in said


ORDERS: dict[str, bytes] = {
    "plain": b"0\n1\n2\n",
    "without an end": b"0\n1\n2",
    "of Windows": b"\xef\xbb\xbf0\r\n1\r\n2\r\n",
    "numbered": b"0,0\n1,1\n2,2\n",
    "quoted": b'"0"\n"1"\n"2"\n',
    "with blanks": b"\n 0 \n\n1\t\n2\n\n\n",
}
BAD_ORDERS: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n",
    "with a heading": b"id,name\n0,0\n1,1\n2,2\n",
    "one twice": b"0\n1\n1\n",
    "one too few": b"0\n1\n",
    "on one line": b"0 1 2",
    "JSON": b'{"0": "0", "1": "1", "2": "2"}',
    "another encoding": b"\xff\xfe0\x00\n\x00",
    "no text": bytes(range(256)),
}


@pytest.mark.parametrize("text", ORDERS.values(), ids=ORDERS)
def test_files_of_classes_that_are_read(here, text):
    (here / "order").write_bytes(text)
    assert scan_images.names_in(here / "order") == ["0", "1", "2"]


@pytest.mark.parametrize("text", BAD_ORDERS.values(), ids=BAD_ORDERS)
def test_files_of_classes_that_are_refused(offered, here, text):
    offered(Net)
    (here / "order").write_bytes(text)
    assert "--classes" in refused("odd.pth", "--network", "odd:make", "--classes", "order")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: None],
                         ids=["pipe", "folder", "device", "nothing"])  # fmt: skip
def test_places_without_a_file_of_classes(offered, here, make):
    offered(Net)
    make(here / "order")
    assert "--classes" in refused("odd.pth", "--network", "odd:make", "--classes", "order")


# ------------------------------------------------------------------------------------------ where reports go


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 9_000])
def test_a_full_disk_takes_no_verdict_along(offered, here, room):
    offered(Net)
    with full_disk(room):
        status, lines, said = run("odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u",
                                  "--json", "r.json")  # fmt: skip
    assert status == FOUND
    assert "Backdoor found" in said
    assert "the verdict above stands" in lines[-1]
    assert (here / "r.json").exists() == (room > 0)
    assert sorted(path.name for path in here.iterdir()) == ["images", "odd.pth"] + ["r.json"] * (room > 0)


@pytest.mark.parametrize("name", ["new/deep/r.html", "two words.html", "🐈.html", "r", os.fsdecode(b"\xff.html")])
def test_reports_of_any_name_are_written(offered, here, name):
    offered(Net)
    status, _, said = run("odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u", "--out", name)
    assert status == FOUND
    assert "report: " in said
    assert (here / name).read_text().startswith("<!")


def test_a_report_below_a_file_takes_no_verdict_along(offered, here):
    offered(Net)
    status, lines, said = run("odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u",
                              "--out", "odd.pth/r.html")  # fmt: skip
    assert (status, "Backdoor found" in said) == (FOUND, True)
    assert "the verdict above stands" in lines[-1]
    assert "File name too long" in refused("odd.pth", "--network", "odd:make", "--out", "x" * 300)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to(offered, here):
    offered(Net)
    (here / "kept").mkdir(mode=0o500)
    status, lines, said = run("odd.pth", "--network", "odd:make", "--images", "images", "--methods", "red-u",
                              "--out", "kept/r.html")  # fmt: skip
    assert (status, "Backdoor found" in said) == (FOUND, True)
    assert "the verdict above stands" in lines[-1]
