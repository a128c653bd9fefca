"""JPEG files with EXIF fields that a camera writes, made without a package for it."""

import struct
from pathlib import Path

import cv2
import numpy as np

ORIENTATION, EXIF_FOLDER, FOCAL_35MM = 0x0112, 0x8769, 0xA405
SHORT, LONG = 3, 4


def write_jpeg(path: Path, pixels: np.ndarray, *, orientation: int = 1, focal_35mm: int = 35) -> Path:
    """The image as a camera would store it: ``orientation`` 6 says to turn it by 90 degrees when it is shown."""
    outer = [(ORIENTATION, SHORT, orientation), (EXIF_FOLDER, LONG, 8 + 2 + 2 * 12 + 4)]
    inner = [(FOCAL_35MM, SHORT, focal_35mm)]
    exif = b"Exif\x00\x00" + b"II*\x00" + struct.pack("<I", 8) + _folder(outer) + _folder(inner)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    path.write_bytes(encoded[:2] + segment + encoded[2:])
    return path


def _folder(entries: list[tuple[int, int, int]]) -> bytes:
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return struct.pack("<H", len(entries)) + rows + struct.pack("<I", 0)
