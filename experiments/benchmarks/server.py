"""The server under load: 64 clients, a third of which hang up and a third of which misbehave.

    python -m experiments.benchmarks.server [--seconds 60] [--clients 64] [--preset embedded] [-o FILE.json]

Said: answers lost or mixed up (of each picture the seed and prompt in its PNG are compared with what was asked, of some its
pixels with those of a bench of our own), refusals without Retry-After, bad requests that were accepted, server errors, the
server's memory, the 99th percentile of /health, and the time of a picture through the server by the bare pipeline's.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from workbench.files import pixels_sha256
from workbench.presets import load_preset
from workbench.recipe import Bench
from workbench.store import Store

COMPARED = 5  # pictures whose pixels are compared
BAD: list[dict[str, Any]] = [
    {"content": b"{", "headers": {"content-type": "application/json"}},
    {"content": b"x" * 400_000},
    {"json": {"promt": "x"}},
    {"json": {"prompt": "x", "seed": "seven"}},
    {"json": {"prompt": ""}},
    {"json": {"prompt": "x", "width": 100_000}},
    {"json": {"prompt": "x"}, "headers": {"origin": "http://evil.example"}},
    {"json": {"prompt": "x"}, "headers": {"host": "evil.example"}},
    {"params": {"prompt": "x" * 20_000}},
    {"json": {"prompt": "x <lora:/etc/passwd:1>"}},
]


@dataclass
class Seen:
    """What the clients saw. `lock` guards it."""

    statuses: Counter[int] = field(default_factory=Counter)
    bad_statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    mixed: int = 0
    without_retry_after: int = 0
    health: list[float] = field(default_factory=list)
    pictures: list[tuple[str, int, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def honest(url: str, seen: Seen, end: float, number: int) -> None:
    chance = random.Random(number)
    while time.monotonic() < end:
        prompt, seed = f"portrait photo of Grace Hopper, {number}", chance.randrange(2**32)
        try:
            answer = httpx.post(f"{url}/generate", json={"prompt": prompt, "seed": seed}, timeout=300)
        except httpx.HTTPError:
            with seen.lock:
                seen.lost += 1
            continue
        with seen.lock:
            seen.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                image = Image.open(io.BytesIO(base64.b64decode(answer.json()["image"].partition(",")[2])))
                said = json.loads(image.text["workbench"])["settings"]  # type: ignore[attr-defined]
                seen.mixed += (said["prompt"], said["seed"]) != (prompt, seed)
                seen.pictures.append((prompt, seed, pixels_sha256(image)))
            elif "retry-after" not in answer.headers:
                seen.without_retry_after += 1
        if answer.status_code in (429, 503):
            time.sleep(min(float(answer.headers.get("retry-after", 1)), 2.0))


def leaving(url: str, seen: Seen, end: float, number: int) -> None:
    chance = random.Random(number)
    while time.monotonic() < end:
        try:
            answer = httpx.post(
                f"{url}/generate",
                json={"prompt": "gone", "seed": chance.randrange(2**32)},
                timeout=chance.uniform(0.05, 3),
            )
        except httpx.TimeoutException:
            continue
        except httpx.HTTPError:
            with seen.lock:
                seen.lost += 1
            continue
        with seen.lock:
            seen.statuses[answer.status_code] += 1
            seen.without_retry_after += answer.status_code in (429, 503) and "retry-after" not in answer.headers
        time.sleep(0.2)


def misbehaving(url: str, seen: Seen, end: float, number: int) -> None:
    chance = random.Random(number)
    host, port = url.removeprefix("http://").split(":")
    while time.monotonic() < end:
        if chance.random() < 0.2:  # says half of what it wants, and hangs up
            with socket.create_connection((host, int(port)), 5) as raw:
                raw.sendall(
                    b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
                    if chance.random() < 0.5
                    else b"\0\xff"
                )
                time.sleep(chance.uniform(0, 0.5))
            continue
        try:
            status = httpx.post(f"{url}/generate", timeout=60, **chance.choice(BAD)).status_code
        except httpx.TransportError:  # a body that is refused before it was sent ends so
            status = 0
        with seen.lock:
            seen.bad_statuses[status] += 1
        time.sleep(0.1)


def watching(url: str, seen: Seen, end: float) -> None:
    with httpx.Client() as client:
        while time.monotonic() < end:
            began = time.perf_counter()
            client.get(f"{url}/health", timeout=60).raise_for_status()
            seen.health.append(time.perf_counter() - began)
            time.sleep(0.05)


def overhead(url: str, preset: str, pictures: int = 5) -> tuple[float, float]:
    """(seconds through the server, seconds of the bare pipeline), medians of turns that alternate."""
    settings, bench = load_preset(preset).settings, Bench(Store(None))
    times: tuple[list[float], list[float]] = ([], [])
    for seed in range(pictures + 1):
        began = time.perf_counter()
        httpx.post(f"{url}/generate", json={"prompt": "a face", "seed": 1000 + seed}, timeout=300).raise_for_status()
        times[0].append(time.perf_counter() - began)
        began = time.perf_counter()
        bench.generate(settings.replace(prompt="a face", seed=2000 + seed))
        times[1].append(time.perf_counter() - began)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def measure(seconds: float, clients: int, preset: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.cli", "serve", "--preset", preset, "--port", str(port)],
            env={**os.environ, "WORKBENCH_HOME": home},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until_ready(url)
            served, bare = overhead(url, preset)
            memory = psutil.Process(process.pid)
            before, seen = memory.memory_info().rss, Seen()
            end = time.monotonic() + seconds
            kinds = (honest, leaving, misbehaving)
            threads = [threading.Thread(target=kinds[i % 3], args=(url, seen, end, i)) for i in range(clients)]
            threads.append(threading.Thread(target=watching, args=(url, seen, end)))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            after = memory.memory_info().rss
            began = time.monotonic()
            process.terminate()
            process.wait(30)
            stopped = time.monotonic() - began
        finally:
            process.kill()
    settings, bench = load_preset(preset).settings, Bench(Store(None))
    other = [
        (prompt, seed)
        for prompt, seed, pixels in seen.pictures[:COMPARED]
        if pixels_sha256(bench.generate(settings.replace(prompt=prompt, seed=seed)).image) != pixels
    ]
    slow = sorted(seen.health)
    return {
        "pictures": len(seen.pictures),
        "statuses": dict(sorted(seen.statuses.items())),
        "bad_requests": dict(sorted(seen.bad_statuses.items())),
        "bad_requests_accepted": seen.bad_statuses[200],
        "server_errors": seen.statuses[500] + seen.bad_statuses[500],
        "lost": seen.lost,
        "mixed": seen.mixed,
        "other_pixels": len(other),
        "refusals_without_retry_after": seen.without_retry_after,
        "health_ms": {
            "p50": round(1000 * slow[len(slow) // 2], 1),
            "p99": round(1000 * slow[int(0.99 * (len(slow) - 1))], 1),
            "max": round(1000 * slow[-1], 1),
            "asked": len(slow),
        },
        "rss_mb": {"before": before // 10**6, "after": after // 10**6},
        "picture_s": {"served": round(served, 3), "bare": round(bare, 3), "ratio": round(served / bare, 3)},
        "stopped_after_s": round(stopped, 2),
    }


def _until_ready(url: str) -> None:
    while True:
        try:
            if httpx.get(f"{url}/ready", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description="The server under load.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found = json.dumps(measure(given.seconds, given.clients, given.preset), indent=2)
    print(found)
    if given.output:
        given.output.write_text(found + "\n")


if __name__ == "__main__":
    main()
