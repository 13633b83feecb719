"""Does the guard hold out? Millions of images through one guard, and 200 callers at once at the example service.

    python benchmarks/load.py                                      # 5 million images, then two minutes; writes results/
    python benchmarks/load.py --images 200000 --seconds 20 --out /tmp/load.json

Both are looked at in ten parts: memory at the end over that after the first part, throughput of the last over the
first.
Each answer of the service is compared with the guard's own; a request without an answer counts as lost.
"""

import argparse
import asyncio
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch
from PIL import Image
from torch import Tensor

from btlib import checkpoints, datasets
from btlib.inflight import Guard, LikelihoodDetector
from btlib.results import environment, save

PARTS = 10
MB = 2**20
SERVICE = Path(__file__).parents[1] / "examples" / "service"


def guard_and_pictures() -> tuple[Guard, Tensor]:
    """A guard of the shipped box network; 1,000 pictures as bytes, half of them with the trigger."""
    spec = checkpoints.shipped()["box"]
    network, trigger = checkpoints.load_or_train(spec), spec.make_trigger()
    data = datasets.load("fashion-mnist")
    images, labels = data.clean_images(100)
    guard = Guard(network, LikelihoodDetector().fit(network, images, labels, target=9, trigger=trigger))
    clean = datasets.to_float(data.x_test[:500])
    return guard, datasets.to_uint8(torch.cat([clean, trigger(clean)]))


def summary(rates: list[float], memory: list[float]) -> dict[str, Any]:
    """Ten rates (per second) and ten memories (MB) as what is claimed of them."""
    return {
        "per second": rates, "MB": memory, "last rate over first": rates[-1] / max(rates[0], 1e-9),
        "last MB over first": memory[-1] / memory[0],
    }  # fmt: skip


def through_the_guard(guard: Guard, pictures: Tensor, count: int) -> dict[str, Any]:
    """`count` images in batches of 1,000 through one guard in this process."""
    process, rates, memory = psutil.Process(), [], []
    for part in range(PARTS):
        began, rounds = time.perf_counter(), max(1, count // PARTS // len(pictures))
        for _ in range(rounds):
            guard(pictures)
        rates.append(rounds * len(pictures) / (time.perf_counter() - began))
        memory.append(process.memory_info().rss / MB)
        sys.stdout.write(f"guard, part {part + 1}: {rates[-1]:,.0f} images/s, {memory[-1]:.0f} MB\n")
    return {"images": rounds * len(pictures) * PARTS, **summary(rates, memory)}


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


async def answered(url: str, bodies: list[bytes], truth: list[int], callers: int, seconds: float) -> list[Counter[str]]:
    """What `callers` got that ask again and again, one counter for each tenth of the time."""
    parts, began = [Counter[str]() for _ in range(PARTS)], time.perf_counter()

    async def call(number: int) -> None:
        async with httpx.AsyncClient(timeout=60, verify=False) as client:  # one for all costs callers² a request
            await ask(client, number)

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        while (now := time.perf_counter() - began) < seconds:
            number = (number + 7) % len(bodies)
            try:
                answer = await client.post(url, content=bodies[number])
            except httpx.HTTPError:
                kind = "lost"
            else:
                kind = str(answer.status_code)
                if answer.status_code == 200 and answer.json()["label"] != truth[number]:
                    kind = "wrong"
                if answer.status_code == 503:
                    await asyncio.sleep(0.2)
            parts[min(PARTS - 1, int(now / seconds * PARTS))][kind] += 1

    await asyncio.gather(*(call(number) for number in range(callers)))
    return parts


async def at_the_service(guard: Guard, pictures: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """`args.callers` at once for `args.seconds` at the example service, in a process of its own on 127.0.0.1."""
    truth, bodies = guard(pictures).label.tolist(), []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture[0].numpy()).save(file, "PNG")
        bodies.append(file.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        path, port = guard.save(Path(folder) / "guard.safetensors"), free_port()
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "warning"]
        settings = {**os.environ, "GUARD": str(path), "MAX_WAITING": str(args.waiting)}
        server = subprocess.Popen(command, cwd=SERVICE, env=settings)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    httpx.get(f"{url}/health")
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.2)
            watched, memory = psutil.Process(server.pid), []

            async def watch() -> None:
                for _ in range(PARTS):
                    await asyncio.sleep(args.seconds / PARTS)
                    memory.append(watched.memory_info().rss / MB)

            parts, _ = await asyncio.gather(
                answered(f"{url}/classify", bodies, truth, args.callers, args.seconds), watch()
            )
            counts = httpx.get(f"{url}/metrics").text.splitlines()
        finally:
            server.terminate()
            server.wait(20)
    rates = [part["200"] / (args.seconds / PARTS) for part in parts]
    total = sum(parts, Counter())
    return {
        "callers": args.callers, "seconds": args.seconds, "waiting": args.waiting, "answers": dict(total),
        "its own counts": counts, **summary(rates, memory),
    }  # fmt: skip


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=128, help="places at the service; fewer than callers: overload")
    parser.add_argument("--out", default="results/benchmark-load.json")
    args = parser.parse_args()
    guard, pictures = guard_and_pictures()
    service = asyncio.run(at_the_service(guard, pictures, args))
    for name in ("answers", "last rate over first", "last MB over first"):
        sys.stdout.write(f"service: {name}: {service[name]}\n")
    inside = through_the_guard(guard, pictures, args.images)
    save(args.out, {"service": service, "guard": inside, "environment": environment()})


if __name__ == "__main__":
    main()
