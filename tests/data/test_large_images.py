"""A file of 10 000 pixels across becomes a small image whose intrinsics see every point where it stood."""

import json

import cv2
import numpy as np
import pytest

from rfp.data import PosedPairs
from tests.data.colmap_models import spot_centres

WIDTH, HEIGHT = 10_000, 2_000
XY_PX = np.array([[1203.0, 650.0], [5004.25, 1201.75], [9300.5, 902.0]])


@pytest.fixture
def folder(tmp_path):
    """One pair: a grey ground with three wide spots, and the same turned upside down."""
    across, down = (
        np.exp(-((np.arange(size) - XY_PX[:, axis, None]) ** 2) / (2 * 60.0**2)).astype(np.float32)
        for axis, size in ((0, WIDTH), (1, HEIGHT))
    )
    pixels = (40 + 200 * (down.T @ across)).round().astype(np.uint8)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.jpg"), pixels)
    cv2.imwrite(str(tmp_path / "images" / "2.jpg"), pixels[::-1])
    K = [[9000.0, 0, 4990], [0, 9100, 970], [0, 0, 1]]
    record = {"image1": "images/1.jpg", "image2": "images/2.jpg", "K1": K, "K2": K, "scene": "spots"}
    record |= {"R": np.eye(3).tolist(), "t": [1, 0, 0]}
    (tmp_path / "pairs.json").write_text(json.dumps([record]))
    return tmp_path


def test_an_image_file_of_10000_px_is_reduced_with_its_intrinsics(folder):
    pair = PosedPairs(folder, image_size=320)[0]
    K = np.array([[9000.0, 0, 4990], [0, 9100, 970], [0, 0, 1]])
    upside_down = XY_PX * [1, -1] + [0, HEIGHT - 1]
    for image, K_small, xy_px in ((pair.image1, pair.K1, XY_PX), (pair.image2, pair.K2, upside_down)):
        assert image.shape == (3, 64, 320)
        rays = np.concatenate([xy_px, np.ones((3, 1))], axis=1) @ np.linalg.inv(K).T
        expected = (rays @ K_small.numpy().T)[:, :2]
        np.testing.assert_allclose(spot_centres(image[0].numpy() * 255, expected, 7), expected, atol=0.03)
