import json

import numpy as np
import pytest
import torch

from rfp.data.undistortion import pinhole_intrinsics
from rfp.evaluation.alignment import align_points, align_rotations
from rfp.evaluation.true_poses import (
    read_true_poses,
    relative_pose,
    without_distortion,
)
from rfp.records import InputError
from tests.geometry.scenes import random_rotations


def _change(folder, change):
    records = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(json.dumps([change(record) for record in records]))


def _write_model(folder, views, *, model="PINHOLE", extra=()):
    """A COLMAP model of the rendered views, without points."""
    pycolmap = pytest.importorskip("pycolmap")
    reconstruction = pycolmap.Reconstruction()
    K, (height, width) = views[0].K, views[0].image.shape[-2:]
    focal = [K[0, 0]] if model == "SIMPLE_RADIAL" else [K[0, 0], K[1, 1]]
    parameters = [float(value) for value in (*focal, K[0, 2] + 0.5, K[1, 2] + 0.5, *extra)]
    camera = pycolmap.Camera(camera_id=1, model=model, width=width, height=height, params=parameters)
    reconstruction.add_camera_with_trivial_rig(camera)
    for index, view in enumerate(views):
        image = pycolmap.Image(name=f"{index}.png", camera_id=1, image_id=index + 1)
        matrix = np.concatenate([view.R.numpy(), view.t.numpy()[:, None]], axis=1)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(matrix))
    folder.mkdir()
    reconstruction.write(folder)
    return folder


def test_poses_of_pairs_are_those_of_the_cameras_seen_from_the_first(session_pairs_folder, corner_views):
    truth = read_true_poses(session_pairs_folder)
    assert sorted(truth.poses) == ["0.png", "1.png", "2.png", "3.png"]
    first = corner_views[0]
    for index, view in enumerate(corner_views):
        pose = truth.poses[f"{index}.png"]
        torch.testing.assert_close(pose.R, view.R @ first.R.T)
        torch.testing.assert_close(pose.centre, first.R @ (-view.R.T @ view.t) + first.t)
        torch.testing.assert_close(truth.intrinsics[f"{index}.png"], view.K)
    assert [(pair.name1, pair.name2) for pair in truth.pairs][:2] == [("0.png", "1.png"), ("0.png", "2.png")]


def test_pairs_of_no_common_scale_give_pairs_but_no_poses(pairs_folder):
    _change(
        pairs_folder, lambda record: {**record, "t": (np.array(record["t"]) / np.linalg.norm(record["t"])).tolist()}
    )
    truth = read_true_poses(pairs_folder)
    assert truth.poses == {}
    assert len(truth.pairs) == 5


def test_pairs_of_two_scenes_give_pairs_but_no_poses(pairs_folder):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    apart = [record for record in records if {record["image1"][-5], record["image2"][-5]} in ({"0", "1"}, {"2", "3"})]
    (pairs_folder / "pairs.json").write_text(json.dumps(apart))
    truth = read_true_poses(pairs_folder)
    assert truth.poses == {}
    assert len(truth.pairs) == 2


def test_a_colmap_model_gives_poses_all_pairs_and_intrinsics_in_our_pixels(tmp_path, corner_views):
    truth = read_true_poses(_write_model(tmp_path / "model", corner_views))
    assert len(truth.pairs) == 6
    for index, view in enumerate(corner_views):
        torch.testing.assert_close(truth.poses[f"{index}.png"].R, view.R)
        torch.testing.assert_close(truth.poses[f"{index}.png"].t, view.t)
        torch.testing.assert_close(truth.intrinsics[f"{index}.png"], view.K)
    pair = truth.pairs[1]
    R, t = relative_pose(truth.poses[pair.name1], truth.poses[pair.name2])
    X = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64)
    one, two = (truth.poses[name] for name in (pair.name1, pair.name2))
    torch.testing.assert_close(R @ (one.R @ X + one.t) + t, two.R @ X + two.t)


def test_a_camera_with_a_distortion_has_no_intrinsics_but_its_points_can_be_moved(tmp_path, corner_views):
    truth = read_true_poses(_write_model(tmp_path / "model", corner_views, model="SIMPLE_RADIAL", extra=(0.1,)))
    assert truth.intrinsics == {}
    camera = truth.cameras["0.png"]
    rays = np.array([[0.3, 0.1], [-0.2, 0.25], [0.0, 0.0]])
    seen = torch.from_numpy(camera.img_from_cam(np.concatenate([rays, np.ones((3, 1))], axis=1)) - 0.5)
    K = torch.from_numpy(pinhole_intrinsics(camera))
    torch.testing.assert_close(K, corner_views[0].K)
    expected = torch.from_numpy(rays) @ K[:2, :2].T + K[:2, 2]
    torch.testing.assert_close(without_distortion(camera, seen), expected, atol=1e-6, rtol=0)
    assert (seen - expected).abs().max() > 0.3


def test_neither_pairs_nor_a_model_is_one_line(tmp_path):
    with pytest.raises(InputError, match="expected a posed-pairs folder"):
        read_true_poses(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_true_poses(tmp_path / "nowhere")


@pytest.mark.parametrize("seed", range(3))
def test_a_similarity_is_found_again_and_is_pycolmap_s_where_there_is_noise(seed):
    pycolmap = pytest.importorskip("pycolmap")
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    R = random_rotations(1, generator)[0].double()
    moved = 2.5 * points @ R.T + torch.tensor([3.0, -1.0, 7.0])
    found = align_points(points, moved)
    assert found.scale == pytest.approx(2.5)
    torch.testing.assert_close(found(points), moved)
    noisy = moved + torch.randn(8, 3, generator=generator, dtype=torch.float64)
    found, theirs = align_points(points, noisy), pycolmap.estimate_sim3d(points.numpy(), noisy.numpy())
    assert found.scale == pytest.approx(theirs.scale)
    torch.testing.assert_close(found.R, torch.from_numpy(theirs.rotation.matrix()))
    torch.testing.assert_close(found.t, torch.from_numpy(theirs.translation))


def test_mirrored_points_get_a_rotation_all_the_same():
    points = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = align_points(points, points * torch.tensor([1.0, 1.0, -1.0]))
    assert torch.det(found.R) == pytest.approx(1)


def test_points_at_one_place_have_no_similarity():
    points = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    assert align_points(points, torch.ones(3, 3)) is None
    assert align_points(torch.ones(3, 3), points) is None
    assert align_points(points[:1], points[:1]) is None


def test_orientations_align_whatever_line_the_cameras_are_on():
    generator = torch.Generator().manual_seed(4)
    R_true, A = random_rotations(5, generator).double(), random_rotations(1, generator)[0].double()
    torch.testing.assert_close(align_rotations(R_true @ A, R_true), A)


def test_a_pair_that_occurs_twice_counts_once_and_a_contradiction_is_refused(pairs_folder):
    records = json.loads((pairs_folder / "pairs.json").read_text())
    (pairs_folder / "pairs.json").write_text(json.dumps([*records, records[1]]))
    with pytest.warns(UserWarning, match="1 pair occurs more than once"):
        assert len(read_true_poses(pairs_folder).pairs) == 5
    (pairs_folder / "pairs.json").write_text(json.dumps([*records, {**records[1], "t": [0.0, 0.0, 1.0]}]))
    with pytest.raises(InputError, match="with other numbers"):
        read_true_poses(pairs_folder)


def test_a_fisheye_camera_without_terms_is_no_pinhole(tmp_path, corner_views):
    """pycolmap calls it undistorted; at the border of a wide lens its rays are tens of degrees off a pinhole's."""
    model = _write_model(tmp_path / "model", corner_views, model="OPENCV_FISHEYE", extra=(0.0, 0.0, 0.0, 0.0))
    truth = read_true_poses(model)
    assert truth.cameras["0.png"].is_undistorted()
    assert truth.intrinsics == {}
