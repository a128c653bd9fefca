import cv2
import numpy as np
import pytest
import torch

from rfp.data.sets.tum import PUBLISHED_CAMERAS
from rfp.data.undistortion import check_distortion, opencv_view, to_pinhole
from rfp.records import InputError
from tests.data.sets.blobs import centroids, render_blobs


def _camera(name, scale=1.0):
    (fx, fy, cx, cy), distortion = PUBLISHED_CAMERAS[name]
    K = np.array([[fx * scale, 0, (cx + 0.5) * scale - 0.5], [0, fy * scale, (cy + 0.5) * scale - 0.5], [0, 0, 1]])
    return K, distortion


@pytest.mark.parametrize("longer_side", [None, 320])
def test_a_pinhole_camera_describes_undistorted_images(longer_side):
    """Points towards the corners, where the lens moves them by several pixels, lie where the new K projects them."""
    K, distortion = _camera("freiburg1")
    rays = np.array([[-0.45, -0.3, 1.0], [0.45, 0.28, 1.0], [0.42, -0.3, 1.0]])
    bent, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, np.array(distortion))
    image = torch.from_numpy(render_blobs(bent[:, 0], 640, 480)).permute(2, 0, 1).float() / 255
    straight, new_K = to_pinhole(image, opencv_view(K, distortion, (640, 480)), longer_side)
    assert max(straight.shape) == (longer_side or 640)
    expected = rays @ new_K.T
    assert np.abs(centroids(straight).numpy() - expected[:, :2]).max() < 0.1
    assert np.abs(bent[:, 0] - (rays @ K.T)[:, :2]).max() > 5


@pytest.mark.parametrize("name", ["freiburg1", "freiburg2"])
@pytest.mark.parametrize("size", [(640, 480), (320, 240)])
def test_undistorted_images_show_nothing_from_beyond_their_borders(name, size):
    K, distortion = _camera(name, size[0] / 640)
    view = opencv_view(K, distortion, size)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([x.ravel(), y.ravel()], axis=1)
    assert view.bend is not None
    source = view.bend((pixels - view.K[:2, 2]) / view.K.diagonal()[:2])
    assert (source > -1).all()
    assert (source < size).all()
    assert view.K[0, 0] == pytest.approx(K[0, 0], rel=0.15)  # and it loses little


@pytest.mark.parametrize("distortion", [(0.1,), (0.1, 0.0, 0.0, float("nan")), (0.1,) * 6])
def test_what_are_no_coefficients_is_refused(distortion):
    with pytest.raises(InputError, match="expected 4 or 5 finite distortion coefficients"):
        check_distortion(distortion)
