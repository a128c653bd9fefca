"""Reading pairs: images a second by the number of workers, and the share of a training step spent waiting for them.

    RFP_DATA=... python benchmarks/data_loading.py [--json docs/results/data_loading.json]
    python benchmarks/data_loading.py --data FOLDER... [--device cuda]

Nothing is kept in memory (``--cache-mb 0``), as in a set that is far larger: each image is read, decoded and resized
each time. One more row has all images in memory. Without ``--data`` and RFP_DATA, the pairs are rendered and written as
JPEG first. The goal: below 5 % of a step on two cores, with aliked-t16 at 320 px.

The last table takes one JPEG of 12 megapixels apart: decoding, resizing as rfp does it, as kornia does it, and what
decoding at a reduced size (libjpeg's) would save and change.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from kornia.geometry.transform import resize
from machine import machine
from report_sets import data_root
from torch import Tensor

import rfp
from rfp.data import PosedPairs, RenderedPairs, SceneOptions, read_image, resize_image
from rfp.data.loading import PairLoader
from rfp.geometry.camera import scale_intrinsics
from rfp.stages import stage_clock
from rfp.training.checkpoint import write_json

SETS = ("ngp_fox", "sceaux_castle")
GOAL = 5.0
"""Percent of a step."""
WARM_UP = 3
"""Steps of training that are not counted: workers start, torch finds its algorithms."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    data: tuple[Path, ...] = ()
    """Folders of posed pairs; by default two of RFP_DATA, or rendered ones where that is unset."""
    network: str = "aliked-t16"
    image_size: int = 320
    """Longer side in pixels."""
    workers: tuple[int, ...] = (0, 1, 2)
    cache_mb: float = 0.0
    """Memory for decoded images."""
    batches: int = 40
    """Of 4 pairs that are read for images a second."""
    steps: int = 15
    """Of training, the first three not counted."""
    threads: int = 2
    """Of torch."""
    device: str = "cpu"


def main(options: Options) -> None:
    """Print the tables row by row and write the file."""
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        folders = options.data or default_folders(Path(folder))
        figures: dict[str, Any] = {
            "images a second": [said(reading(folders, options, workers)) for workers in options.workers],
            "a training step": [
                *(said(training(folders, options, workers, options.cache_mb)) for workers in options.workers),
                said(training(folders, options, 0, 4096.0)),
            ],
            "one JPEG of 12 megapixels at 320 px": said(one_large_image(Path(folder))),
        }
    waits = [row["waiting, %"] for row in figures["a training step"][:-1]]
    figures["goal"] = {"waiting at most, %": GOAL, "best": min(waits), "met": min(waits) <= GOAL}
    figures["measured with"] = {
        "network": options.network,
        "image size": options.image_size,
        "pairs of a step": rfp.TrainerOptions().pairs_per_step,
        "torch's threads": options.threads,
        "device": options.device,
        "others on the machine at the start": f"{load:.1f} processes at work",
        **machine(),
    }
    said(figures["goal"])
    said(figures["measured with"])
    if options.json is not None:
        write_json(options.json, figures)


def said(row: dict[str, Any]) -> dict[str, Any]:
    """The row, printed as soon as it is known."""
    print(", ".join(f"{key} {entry}" for key, entry in row.items()), flush=True)
    return row


def default_folders(scratch: Path) -> tuple[Path, ...]:
    """Two training sets of RFP_DATA, or rendered pairs of 1024 px as JPEG."""
    try:
        root = data_root()
    except SystemExit:
        return (rendered_folder(scratch / "rendered"),)
    return tuple(root / name for name in SETS)


def rendered_folder(folder: Path, *, num_pairs: int = 16) -> Path:
    """Rendered pairs, enlarged to 1024 px and written as a folder of posed pairs."""
    (folder / "images").mkdir(parents=True)
    records = []
    stream = RenderedPairs(SceneOptions(image_size=(192, 256), num_textures=9))
    for number, pair in enumerate(stream.fixed_set(num_pairs, seed=0)):
        record: dict[str, Any] = {"R": pair.R.tolist(), "t": pair.t.tolist()}
        for key, K in (("1", pair.K1), ("2", pair.K2)):
            record[f"K{key}"] = scale_intrinsics(K, 4.0, 4.0).tolist()
            record[f"image{key}"] = f"images/{number:03d}_{key}.jpg"
            write_enlarged(folder / record[f"image{key}"], getattr(pair, f"image{key}"), 4)
        records.append({**record, "scene": pair.scene})
    (folder / "pairs.json").write_text(json.dumps(records))
    return folder


def write_enlarged(path: Path, image: Tensor, factor: int, *, noise: float = 4.0, quality: int = 92) -> None:
    """A JPEG with as many bytes as a photograph has: smooth by enlarging, with noise in steps of 8 bits."""
    bgr = image.permute(1, 2, 0).flip(-1).contiguous().numpy()
    large = 255 * cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    large += np.random.default_rng(0).normal(0, noise, large.shape)
    cv2.imwrite(str(path), np.clip(large, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])


def reading(folders: tuple[Path, ...], options: Options, workers: int) -> dict[str, Any]:
    """Images a second of a loader that nobody keeps waiting, from its second batch on."""
    pairs = PosedPairs(folders, image_size=options.image_size, cache_mb=options.cache_mb)
    started = time.perf_counter()
    with PairLoader(
        pairs, batch_size=4, seed=0, steps=range(options.batches), workers=workers, device=options.device
    ) as loader:
        next(loader)
        first = time.perf_counter()
        images = sum(2 * len(loaded.pairs) for loaded in loader)
        synchronize(options.device)
        seconds = time.perf_counter() - first
    return {
        "workers": workers,
        "images a second": round(images / seconds, 1),
        "first batch, s": round(first - started, 2),
    }


def training(folders: tuple[Path, ...], options: Options, workers: int, cache_mb: float) -> dict[str, Any]:
    """Seconds of a training step, and the share of them that goes into having its pairs."""
    pairs = PosedPairs(folders, image_size=options.image_size, cache_mb=cache_mb)
    if cache_mb > options.cache_mb:
        pairs.check_images()
    network = rfp.load_network(options.network).to(options.device)
    trainer = rfp.Trainer(network, rfp.TrainerOptions(steps=options.steps, workers=workers, log_every=1))
    begun: dict[str, float] = {}
    with stage_clock(trainer.device) as clock:

        def after_warm_up(row: dict[str, Any]) -> None:
            if row["step"] == WARM_UP:
                begun.update({"pairs": clock.seconds()["pairs"], "all": time.perf_counter()})

        trainer.fit(pairs, on_step=after_warm_up)
        waiting = clock.seconds()["pairs"] - begun["pairs"]
    seconds = time.perf_counter() - begun["all"]
    return {
        "workers": "0, images in memory" if cache_mb > options.cache_mb else str(workers),
        "seconds a step": round(seconds / (options.steps - WARM_UP), 3),
        "waiting, %": round(100 * waiting / seconds, 2),
    }


def one_large_image(folder: Path) -> dict[str, Any]:
    """Milliseconds of each part, with one thread, and how far a reduced decoding would be off in steps of 8 bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = folder / "large.jpg"
    write_enlarged(
        path, RenderedPairs(SceneOptions(image_size=(250, 333), num_textures=9)).fixed_set(1, seed=1)[0].image1, 12
    )
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = read_image(path)
    ours = resize_image(image, 320)[0]
    size = (ours.shape[-2], ours.shape[-1])
    quarter: Any = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_4)
    quarter = torch.from_numpy(quarter[..., ::-1].copy()).permute(2, 0, 1) / 255
    reduced = (resize_image(quarter, 320)[0] - ours).abs() * 255
    figures = {
        "decoding, ms": milliseconds(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR)),
        "resizing, ms": milliseconds(lambda: resize_image(image, 320)),
        "resizing by kornia, ms": milliseconds(lambda: resize(image, size, antialias=True)),
        "largest difference to kornia": float((resize(image, size, antialias=True).clamp(0, 1) - ours).abs().max()),
        "decoding at a quarter, ms": milliseconds(lambda: cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_4)),
        "its mean difference, of 255": round(reduced.mean().item(), 2),
        "its largest difference, of 255": round(reduced.max().item(), 1),
    }
    torch.set_num_threads(threads)
    return figures


def milliseconds(call: Callable[[], Any], *, repetitions: int = 5) -> float:
    """The median of the processor's time."""
    times = []
    for _ in range(repetitions):
        started = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - started))
    return round(statistics.median(times), 1)


def synchronize(device: str) -> None:
    """Wait for the device, where there is something to wait for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main(tyro.cli(Options))
