"""A folder of plain photographs → pairs with exact truth: planes rendered with their content, or homographies."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rfp.data.homographies import HomographyOptions, draw_homography_pairs
from rfp.data.pair_writing import ImageFormat, new_folder, pair_record, write_image, write_pairs, write_records
from rfp.data.photographs import load_photographs
from rfp.data.posed_images import Progress
from rfp.data.synthetic import RenderedPairs, SceneOptions
from rfp.records import InputError

RENDERED_TEXTURE_SIZE = 512
HOMOGRAPHY_SOURCE_SCALE = 3
CHUNK = 8
"""Pairs made at once."""


@dataclass(frozen=True)
class PhotographOptions:
    """Which photographs are shown, and how large."""

    image_size: tuple[int, int] = (240, 320)
    """Height and width of the written images."""
    texture_size: int | None = None
    """Side in pixels of the square crops that photographs are shown as. None: 512 on rendered surfaces, which take
    powers of two alone, and three times the longer side of the images for homographies, whose views seldom look past
    the edge then (black there)."""
    crops: int = 1
    """Crops of each photograph."""
    largest_scale: float = 1.0
    """1 shows the whole shorter side of a photograph; more shows details of large ones, too."""
    limit: int | None = 200
    """Photographs read at most, evenly spaced in the order of their paths; None reads all."""
    seed: int = 0
    """Of everything that is drawn."""


def rendered_from_photographs(
    photographs: str | Path,
    output: str | Path,
    *,
    num_pairs: int,
    options: PhotographOptions | None = None,
    scenes: SceneOptions | None = None,
    scene: str = "",
    image_format: ImageFormat = "png",
    progress: Progress = iter,
) -> int:
    """Write posed pairs of rendered scenes whose surfaces show the photographs; how many photographs were shown.

    K, R and t are exact: the scenes are rendered. By default these are planes at several depths; a single plane
    would leave two poses for one homography.

    Args:
        scenes: What is rendered; ``image_size`` and ``texture_size`` are those of ``options``. The bank keeps
            ``num_textures`` procedural textures beside the photographs, one by default.
        scene: Of every record; the name of ``output`` by default.

    Raises:
        InputError: no photographs, one that cannot be read, options that mean nothing, or no place to write to.

    Example:
        >>> rendered_from_photographs("photographs", "data/planes", num_pairs=500)    # doctest: +SKIP
    """
    options = PhotographOptions() if options is None else options
    scenes = SceneOptions(layouts=("cards",), num_textures=1) if scenes is None else scenes
    size = RENDERED_TEXTURE_SIZE if options.texture_size is None else options.texture_size
    scenes = replace(scenes, image_size=options.image_size, texture_size=size)
    _check(num_pairs, options)
    generator = torch.Generator().manual_seed(options.seed)
    crops = _load(photographs, size, options, generator)
    stream = RenderedPairs(scenes, photographs=crops)
    scene = scene or Path(output).absolute().name
    records: list[dict[str, Any]] = []
    with new_folder(output) as folder:
        for start in progress(range(0, num_pairs, CHUNK)):
            batch = stream.render(CHUNK, generator=generator)
            for number in range(min(CHUNK, num_pairs - start)):
                files = _write_two(folder, start + number, image_format, batch.images[number].unbind())
                K, R, t = (value[number].double().numpy() for value in (batch.K, batch.R, batch.t))
                layout, overlap = scenes.layouts[int(batch.layout[number])], round(float(batch.overlap[number]), 3)
                record = pair_record(files, (K[0], K[1]), R, t, scene=scene, layout=layout, overlap=overlap)
                records.append(record)
        write_pairs(folder, records)
    return len(crops)


def homographies_from_photographs(
    photographs: str | Path,
    output: str | Path,
    *,
    num_pairs: int,
    options: PhotographOptions | None = None,
    views: HomographyOptions | None = None,
    scene: str = "",
    image_format: ImageFormat = "png",
    progress: Progress = iter,
) -> int:
    """Write pairs of views of the photographs and their exact homographies; how many photographs there were.

    ``output`` holds ``images/`` and ``homographies.json``, a list of ``{image1, image2, H, scene}``: H takes pixels of
    image 1 to pixels of image 2, pixel (0, 0) being the centre of the top-left pixel.

    Args:
        views: How two cameras look at a photograph; ``image_size`` is that of ``options``.
        scene: Of every record; the name of ``output`` by default.

    Raises:
        InputError: no photographs, one that cannot be read, options that mean nothing, or no place to write to.

    Example:
        >>> homographies_from_photographs("photographs", "data/flat", num_pairs=500)    # doctest: +SKIP
    """
    options = PhotographOptions() if options is None else options
    views = replace(HomographyOptions() if views is None else views, image_size=options.image_size)
    size = HOMOGRAPHY_SOURCE_SCALE * max(options.image_size) if options.texture_size is None else options.texture_size
    _check(num_pairs, options)
    generator = torch.Generator().manual_seed(options.seed)
    crops = _load(photographs, size, options, generator)
    scene = scene or Path(output).absolute().name
    records: list[dict[str, Any]] = []
    with new_folder(output) as folder:
        for start in progress(range(0, num_pairs, CHUNK)):
            drawn = draw_homography_pairs(crops, CHUNK, options=views, generator=generator)
            for number in range(min(CHUNK, num_pairs - start)):
                images = (drawn.images1[number], drawn.images2[number])
                image1, image2 = _write_two(folder, start + number, image_format, images)
                H = drawn.H[number].double()
                H = (H / H[2, 2]).tolist()
                records.append({"image1": image1, "image2": image2, "H": H, "scene": scene})
        write_records(folder / "homographies.json", records)
    return len(crops)


def _check(num_pairs: int, options: PhotographOptions) -> None:
    if num_pairs < 1:
        raise InputError(f"expected at least 1 pair to make, got {num_pairs}")
    if options.seed < 0:
        raise InputError(f"expected a seed of at least 0, got {options.seed}")


def _load(photographs: str | Path, size: int, options: PhotographOptions, generator: torch.Generator) -> torch.Tensor:
    """In bytes: a quarter of the memory."""
    return load_photographs(
        photographs,
        size=size,
        crops=options.crops,
        largest_scale=options.largest_scale,
        limit=options.limit,
        dtype=torch.uint8,
        generator=generator,
    )


def _write_two(folder: Path, place: int, image_format: ImageFormat, images: Any) -> tuple[str, str]:
    names = (f"images/{place:06d}-1.{image_format}", f"images/{place:06d}-2.{image_format}")
    for name, image in zip(names, images):
        write_image(image, folder / name)
    return names
