"""The server under load: 64 clients, a third of which hang up and a third of which misbehave.

    python -m experiments.benchmarks.server [--seconds 60] [--clients 64] [--preset embedded] [--pictures 5] [-o FILE]

Said: answers lost or mixed up (of each picture the seed and prompt in its PNG are compared with what was asked, of some its
pixels with those of a bench of our own), refusals without Retry-After, bad requests that were accepted, server errors, the
server's memory, the 99th percentile of /health, and the time of a picture through the server by the bare pipeline's.

The server, the clients and whoever asks /health are a process each. The clients give way to the others (`nice 10`), as if
they were other machines. How late whoever asks /health woke up from its sleeps is said beside its answers' times: that is the
machine's doing, and in every one of them, too.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from multiprocessing import get_context
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
    """What the clients saw. `LOCK` guards it."""

    statuses: Counter[int] = field(default_factory=Counter)
    bad_statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    mixed: int = 0
    without_retry_after: int = 0
    pictures: list[tuple[str, int, str]] = field(default_factory=list)


LOCK = threading.Lock()
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # made once: making one for each request was most of the clients' work


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def honest(url: str, seen: Seen, end: float, number: int) -> None:
    chance = random.Random(number)
    while time.monotonic() < end:
        prompt, seed = f"portrait photo of Grace Hopper, {number}", chance.randrange(2**32)
        try:
            answer = httpx.post(f"{url}/generate", json={"prompt": prompt, "seed": seed}, timeout=300, verify=NO_TLS)
        except httpx.HTTPError:
            with LOCK:
                seen.lost += 1
            continue
        with LOCK:
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
                verify=NO_TLS,
            )
        except httpx.TimeoutException:
            continue
        except httpx.HTTPError:
            with LOCK:
                seen.lost += 1
            continue
        with LOCK:
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
            status = httpx.post(f"{url}/generate", timeout=60, verify=NO_TLS, **chance.choice(BAD)).status_code
        except httpx.TransportError:  # a body that is refused before it was sent ends so
            status = 0
        with LOCK:
            seen.bad_statuses[status] += 1
        time.sleep(0.1)


def load(url: str, seconds: float, clients: int) -> Seen:
    """All clients, a thread each, in a process that gives way."""
    os.nice(10)
    seen, end, kinds = Seen(), time.monotonic() + seconds, (honest, leaving, misbehaving)
    threads = [threading.Thread(target=kinds[i % 3], args=(url, seen, end, i)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def watch(url: str, seconds: float) -> tuple[list[float], list[float]]:
    """(seconds that /health took, seconds by which a sleep of 50 ms was too long before each)."""
    taken, late = [], []
    connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        time.sleep(0.05)
        late.append(time.perf_counter() - began - 0.05)
        began = time.perf_counter()
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        taken.append(time.perf_counter() - began)
        if answer.status != 200:
            raise SystemExit(f"/health answered {answer.status}.")
    return taken, late


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In ms."""
    slow = sorted(seconds)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(1000 * slow[int(share * (len(slow) - 1))], 1) for name, share in at.items()}


def overhead(url: str, preset: str, pictures: int) -> tuple[float, float]:
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


def measure(seconds: float, clients: int, preset: str, pictures: int) -> dict[str, object]:
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
            served, bare = overhead(url, preset, pictures) if pictures else (0.0, 0.0)
            memory = psutil.Process(process.pid)
            before, busy = memory.memory_info().rss, psutil.getloadavg()[0]
            with ProcessPoolExecutor(2, get_context("spawn")) as pool:
                quiet, _ = pool.submit(watch, url, 5).result()
                loaded, watched = pool.submit(load, url, seconds, clients), pool.submit(watch, url, seconds)
                seen, (health, late) = loaded.result(), watched.result()
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
        "health_ms": percentiles(health) | {"asked": len(health)},
        "health_quiet_ms": percentiles(quiet),
        "machine_late_ms": percentiles(late),
        "load_average_before": round(busy, 2),
        "rss_mb": {"before": before // 10**6, "after": after // 10**6},
        "picture_s": {"served": round(served, 3), "bare": round(bare, 3), "ratio": round(served / bare, 3)}
        if bare
        else {},
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
    parser.add_argument("--pictures", type=int, default=5, help="to time by the bare pipeline's; 0: none")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    found = json.dumps(measure(given.seconds, given.clients, given.preset, given.pictures), indent=2)
    print(found)
    if given.output:
        given.output.write_text(found + "\n")


if __name__ == "__main__":
    main()
