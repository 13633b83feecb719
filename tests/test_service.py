"""The example service answers as its guard does, refuses in words, and loses nobody who asked."""

import asyncio
import importlib.util
import io
import struct
import sys
import threading
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from btlib import checkpoints, datasets
from btlib.inflight import Guard, LikelihoodDetector

httpx = pytest.importorskip("httpx", reason="needs pip install btlib[service] and httpx")
TestClient = pytest.importorskip("fastapi.testclient", reason="needs pip install btlib[service]").TestClient
APP = Path(__file__).parents[1] / "examples/service/app.py"
TARGET = 9


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("service_app", APP)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["service_app"] = module = importlib.util.module_from_spec(spec)
    before = Image.MAX_IMAGE_PIXELS
    spec.loader.exec_module(module)
    yield module
    Image.MAX_IMAGE_PIXELS = before
    del sys.modules["service_app"]


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Guard, Tensor]:
    """A guard's file, the guard, and 8-bit pictures: ten clean ones, then the same with the trigger."""
    spec = checkpoints.shipped()["box"]
    network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
    images, labels = datasets.load("fashion-mnist").clean_images(20)
    made = Guard(network, LikelihoodDetector().fit(network, images, labels, target=TARGET, trigger=trigger))
    clean = datasets.as_float(images[::20])
    shown = datasets.to_uint8(torch.cat([clean, trigger(clean)]))
    return made.save(tmp_path_factory.mktemp("guard") / "guard.safetensors"), made, shown


def png(picture: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture[0].numpy()).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("answer", ["source", "backdoor"])
def test_it_answers_as_the_guard_does(app: ModuleType, guard: Any, answer: str) -> None:
    path, made, images = guard
    truth = made(images)
    assert 5 < int(truth.is_trigger.sum()) < 15
    with TestClient(app.make_app(app.Settings(guard=str(path), answer=answer))) as client:
        for i, picture in enumerate(images):
            said = client.post("/classify", content=png(picture)).json()
            flagged, label = bool(truth.is_trigger[i]), int(truth.label[i])
            assert said["backdoor"] is flagged
            assert said["predicted"] == int(truth.predicted[i])
            assert said["source"] == (label if flagged else None)
            assert said["label"] == (10 if flagged and answer == "backdoor" else label)
            assert (said["score"] is None) == (said["predicted"] != TARGET)
        counts = client.get("/metrics").text
        assert f'outcome="backdoor"}} {int(truth.is_trigger.sum())}\n' in counts
        assert client.get("/health").json() == {"target": TARGET, "classes": 10, "warnings": []}


def bomb(side: int) -> bytes:
    """A PNG of side × side black pixels in a few kilobytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_it_refuses_in_words_and_goes_on(app: ModuleType, guard: Any) -> None:
    path, _, images = guard
    with TestClient(app.make_app(app.Settings(guard=str(path), max_bytes=20_000))) as client:
        for body, status, words in [
            (b"", 422, "it cannot be read as an image"),
            (b"no picture", 422, "it cannot be read as an image"),
            (png(images[0])[:60], 422, "it cannot be read as an image"),
            (bomb(8000), 422, "decompression bomb"),
            (bytes(20_001), 413, "at most 20000 bytes"),
        ]:
            answer = client.post("/classify", content=body)
            assert answer.status_code == status
            assert words in answer.json()["detail"]
        assert client.post("/classify", content=png(images[0])).status_code == 200
        assert 'outcome="refused"} 5\n' in client.get("/metrics").text


class SlowGuard:
    """Waits until it is let go; fails where a picture is all white."""

    def __init__(self, like: Guard) -> None:
        self.like, self.settings, self.go, self.sizes = like, like.settings, threading.Event(), []

    def __call__(self, images: Tensor) -> Any:
        assert self.go.wait(20)
        self.sizes.append(len(images))
        if bool((images == 1).flatten(1).all(1).any()):
            raise RuntimeError("white")
        return self.like(images)


def asked(app: ModuleType, slow: SlowGuard, bodies: list[bytes], **settings: Any) -> tuple[list[Any], str]:
    """Answers to all bodies, asked at once; the guard is let go when all that will be refused were."""
    service = app.make_app(app.Settings(guard="", **settings))

    async def ask() -> tuple[list[Any], str]:
        service.state.desk = desk = app.Desk(slow, app.Settings(guard="", **settings))
        worker = asyncio.create_task(desk.work())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://service") as client:
            waiting = [asyncio.create_task(client.post("/classify", content=body)) for body in bodies]
            room = settings.get("max_waiting", 256) + settings.get("batch", 32)
            while sum(task.done() for task in waiting) < len(bodies) - room:
                await asyncio.sleep(0.01)
            slow.go.set()
            answers = await asyncio.gather(*waiting)
            counts = (await client.get("/metrics")).text
        worker.cancel()
        return answers, counts

    return asyncio.run(ask())


def test_overload_is_answered_and_nobody_who_waits_is_lost(app: ModuleType, guard: Any) -> None:
    _, made, images = guard
    slow = SlowGuard(made)
    bodies = [png(images[i % 20]) for i in range(40)]
    answers, counts = asked(app, slow, bodies, max_waiting=8, batch=4)
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert 8 <= statuses.count(200) <= 12  # those that wait, and up to a batch that is being judged
    assert f'outcome="overload"}} {statuses.count(503)}\n' in counts
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 503)
    truth = made(images)
    for i, answer in enumerate(answers):
        if answer.status_code == 200:
            assert answer.json()["label"] == int(truth.label[i % 20]), "each gets the answer to its own picture"
    assert max(slow.sizes) <= 4


def test_a_guard_that_fails_is_an_answer_too(app: ModuleType, guard: Any) -> None:
    _, made, images = guard
    white = png(torch.full((1, 28, 28), 255, dtype=torch.uint8))
    answers, counts = asked(app, SlowGuard(made), [white, png(images[0]), png(images[1])], batch=1)
    assert [answer.status_code for answer in answers] == [500, 200, 200]
    assert answers[0].json()["detail"] == "the guard failed: RuntimeError"
    assert 'outcome="error"} 1\n' in counts


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, "GUARD: expected a guard's file"), ({"GUARD": "a", "ANSWER": "no"}, "ANSWER: expected source or backdoor"),
     ({"GUARD": "a", "BATCH": "0"}, "BATCH: expected a number"), ({"GUARD": "a", "MAX_BYTES": "1e6"}, "MAX_BYTES")],
)  # fmt: skip
def test_wrong_settings_are_one_sentence(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], words: str
) -> None:
    for name in ("GUARD", "ANSWER", "BATCH", "MAX_BYTES", "MAX_WAITING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=words):
        app.Settings.from_environment()
