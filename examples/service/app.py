"""A guarded classifier as a small web service: one picture in, one answer out.

    GUARD=guard.safetensors uvicorn app:app --host 127.0.0.1 --port 8000
    curl --data-binary @picture.png http://127.0.0.1:8000/classify

An example to start from. It has no accounts and no encryption: put it behind what you use for those.
"""

import asyncio
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from fastapi import FastAPI, HTTPException, Request, Response
from PIL import Image
from torch import Tensor

from btlib.datasets import DataError, pictures, to_float
from btlib.inflight import Guard

Image.MAX_IMAGE_PIXELS = 4_000_000  # twice that is refused before it is unpacked: a small file may be a huge picture


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the service is started with: each is an environment variable of the same name in capitals.

    Attributes:
        guard: the file that `btlib guard` or `Guard.save` wrote.
        answer: ``"source"``: a triggered picture is answered with its inferred class; ``"backdoor"``: with class K.
        max_bytes: a larger picture is refused (413).
        max_waiting: so many pictures may wait; the next is refused (503).
        batch: so many are judged at once.
    """

    guard: str
    answer: str = "source"
    max_bytes: int = 1_000_000
    max_waiting: int = 256
    batch: int = 32

    @classmethod
    def from_environment(cls) -> Self:
        """The settings, or one sentence that says which is wrong."""
        path = os.environ.get("GUARD")
        if not path:
            raise SystemExit("GUARD: expected a guard's file, got nothing; start with GUARD=guard.safetensors")
        settings = cls(guard=path, answer=os.environ.get("ANSWER", cls.answer))
        if settings.answer not in ("source", "backdoor"):
            raise SystemExit(f"ANSWER: expected source or backdoor, got {settings.answer}")
        for name in ("max_bytes", "max_waiting", "batch"):
            text = os.environ.get(name.upper(), str(getattr(settings, name)))
            if not text.isdecimal() or int(text) < 1:
                raise SystemExit(f"{name.upper()}: expected a number of 1 or more, got {text}")
            settings = replace(settings, **{name: int(text)})
        return settings


@dataclass
class Desk:
    """Pictures wait here, and are judged several at a time."""

    guard: Callable[[Tensor], object]
    settings: Settings
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[Tensor, asyncio.Future[dict]]] = asyncio.Queue(self.settings.max_waiting)

    async def ask(self, picture: Tensor) -> dict:
        """The answer for one picture, when its turn has come; 503 when too many wait already."""
        answer: asyncio.Future[dict] = asyncio.get_running_loop().create_future()
        try:
            self.waiting.put_nowait((picture, answer))
        except asyncio.QueueFull:
            self.counts["overload"] += 1
            raise HTTPException(503, "too many pictures wait; try again in a second", {"Retry-After": "1"}) from None
        return await answer

    async def work(self) -> None:
        """Judge what waits, for ever."""
        while True:
            asked = [await self.waiting.get()]
            while len(asked) < self.settings.batch and not self.waiting.empty():
                asked.append(self.waiting.get_nowait())
            pictures_, answers = zip(*asked, strict=True)
            try:
                said = await asyncio.to_thread(self.judge, torch.cat(pictures_))
            except Exception as error:  # those who asked must not wait for ever
                self.counts["error"] += len(answers)
                said = [HTTPException(500, f"the guard failed: {type(error).__name__}")] * len(answers)
            for answer, each in zip(answers, said, strict=True):
                if answer.cancelled():
                    continue
                if isinstance(each, HTTPException):
                    answer.set_exception(each)
                else:
                    answer.set_result(each)

    def judge(self, images: Tensor) -> list[dict]:
        """One answer per picture, and the counts."""
        said = self.guard(images)
        backdoor = self.guard.settings.num_classes
        found = []
        for label, flagged, predicted, score in zip(
            said.label.tolist(), said.is_trigger.tolist(), said.predicted.tolist(), said.scores.tolist(), strict=True
        ):
            shown = backdoor if flagged and self.settings.answer == "backdoor" else label
            score = None if score == float("-inf") else score  # JSON has no infinity
            found.append({"label": shown, "backdoor": flagged, "source": label if flagged else None,
                          "predicted": predicted, "score": score})  # fmt: skip
            self.counts["backdoor" if flagged else "clean"] += 1
        return found


def make_app(settings: Settings) -> FastAPI:
    """The service; the guard is read when it starts."""

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        app.state.desk = Desk(Guard.load(settings.guard), settings)
        worker = asyncio.create_task(app.state.desk.work())
        yield
        worker.cancel()

    app = FastAPI(title="A guarded classifier", lifespan=alive)

    @app.post("/classify")
    async def classify(request: Request) -> dict:
        """A picture file (PNG, JPEG, …) as the body → label, backdoor, source, predicted, score."""
        desk: Desk = request.app.state.desk
        try:
            body = await limited(request, settings.max_bytes)
            images, _ = await asyncio.to_thread(pictures.decode, [io.BytesIO(body)], desk.guard.settings.image_shape)
        except DataError as error:
            desk.counts["refused"] += 1
            raise HTTPException(422, str(error)) from error
        except HTTPException:
            desk.counts["refused"] += 1
            raise
        return await desk.ask(to_float(images))

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """Counts since the start, in Prometheus' text form."""
        desk: Desk = request.app.state.desk
        kinds = ("clean", "backdoor", "refused", "overload", "error")
        lines = [f'btlib_guard_pictures_total{{outcome="{kind}"}} {desk.counts[kind]}' for kind in kinds]
        return Response("\n".join([*lines, f"btlib_guard_waiting {desk.waiting.qsize()}", ""]), media_type="text/plain")

    @app.get("/health")
    async def health(request: Request) -> dict:
        """That it lives, and why its guard is not to be trusted, in words."""
        found = request.app.state.desk.guard.settings
        return {"target": found.target, "classes": found.num_classes, "warnings": found.warnings}

    return app


async def limited(request: Request, most: int) -> bytes:
    """The body, read no further than the limit."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"expected a picture of at most {most} bytes")
    return body


def __getattr__(name: str) -> FastAPI:
    """`app`, made when uvicorn asks for it, so that a test can import this file without a guard."""
    if name == "app":
        return make_app(Settings.from_environment())
    raise AttributeError(name)
