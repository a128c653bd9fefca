"""What the four estimators refuse before they compute anything, each on one line that says what to do."""

import inspect

import pytest
import torch

from rfp.records import Correspondences, InputError
from rfp.robust.absolute_pose import estimate_absolute_pose
from rfp.robust.fundamental import estimate_fundamental
from rfp.robust.homography import estimate_homography
from rfp.robust.options import RansacOptions
from rfp.robust.relative_pose import RelativePoseEstimator, estimate_relative_pose

ESTIMATES = {
    "relative pose": (estimate_relative_pose, 2, 5),
    "fundamental matrix": (estimate_fundamental, 2, 7),
    "homography": (estimate_homography, 2, 4),
    "absolute pose": (estimate_absolute_pose, 3, 3),
}
BATCH, SLOTS = (2, 3), 7


def arguments(name: str, device: str = "cpu") -> dict:
    """A call that is accepted. Seven matches of each of six problems, so that no wrong shape has a wrong count."""
    _, width, size = ESTIMATES[name]
    first, second = (torch.zeros(*BATCH, SLOTS, d, device=device) for d in (width, 2))
    samples = torch.zeros(*BATCH, 4, size, dtype=torch.int64, device=device)
    return {"first": first, "second": second, "max_error": 0.1, "samples": samples, "generator": None}


def call(name: str, first, second, **others):
    """Without the checks of annotations that the tests run under: users have none."""
    options = RansacOptions(num_hypotheses=4, resample_rounds=0, refinement_iterations=1)
    with torch.no_grad():
        return inspect.unwrap(ESTIMATES[name][0])(first, second, options=options, **others)


def ones(*shape, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", ESTIMATES)
def test_what_goes_together_is_accepted(name, device):
    given = arguments(name, device)
    weight, mask = (torch.ones(*BATCH, SLOTS, device=device, dtype=dtype) for dtype in (torch.float32, torch.bool))
    for max_error in (1.0, torch.ones(BATCH, device=device)):
        assert call(name, **{**given, "max_error": max_error}, weight=weight, valid=mask).valid.shape == BATCH
    assert call(name, **{**given, "samples": given["samples"].int()}, weight=weight).valid.shape == BATCH


WRONG = {
    "mask transposed": (
        {"valid": ones(SLOTS, *BATCH, dtype=torch.bool)},
        r"valid of shape \(2, 3, 7\), got \(7, 2, 3\)",
    ),
    "mask of one problem": ({"valid": ones(SLOTS, dtype=torch.bool)}, r"valid of shape \(2, 3, 7\), got \(7,\)"),
    "mask of floats": ({"valid": ones(*BATCH, SLOTS)}, r"valid of dtype torch.bool, got torch.float32"),
    "mask of integers": ({"valid": ones(*BATCH, SLOTS, dtype=torch.int64)}, r"valid of dtype torch.bool, got"),
    "mask as a list": ({"valid": [True] * SLOTS}, r"valid as a tensor, got list"),
    "weight transposed": ({"weight": ones(SLOTS, *BATCH)}, r"weight of shape \(2, 3, 7\), got \(7, 2, 3\)"),
    "weight of booleans": ({"weight": ones(*BATCH, SLOTS, dtype=torch.bool)}, r"real numbers, got torch.bool"),
    "sampling weight transposed": (
        {"sampling_weight": ones(SLOTS, *BATCH)},
        r"sampling_weight of shape \(2, 3, 7\), got",
    ),
    "weight elsewhere": ({"weight": torch.ones(*BATCH, SLOTS, device="meta")}, r"weight on cpu as \w+ is, got meta"),
    "thresholds of pairs": ({"max_error": ones(3)}, r"max_error as one number or of shape \(2, 3\), got \(3,\)"),
    "thresholds of integers": ({"max_error": ones(*BATCH, dtype=torch.int64)}, r"max_error in float32 .* torch.int64"),
    "a threshold in words": ({"max_error": "1 px"}, r"max_error as a number or a tensor, got str"),
    "a seed for a generator": ({"generator": 7}, r"a torch.Generator as generator, got int"),
    "weights of given samples": (
        {"sampling_weight": ones(*BATCH, SLOTS)},
        r"sampling_weight= without samples=, got both",
    ),
    "samples in floats": ({"samples": ones(*BATCH, 4, 3)}, r"samples as a tensor of integers, got torch.float32"),
}


def assert_refused(name: str, changes: dict, message: str):
    with pytest.raises(InputError, match=rf"^expected (a weight of )?{message}[^\n]*; [^\n]+$"):
        call(name, **{**arguments(name), **changes})


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ESTIMATES)
def test_what_does_not_go_together_is_refused_on_one_line(name, wrong):
    assert_refused(name, *WRONG[wrong])


@pytest.mark.parametrize("name", ESTIMATES)
def test_samples_must_be_those_of_the_problems_and_the_model(name):
    size = ESTIMATES[name][2]
    for shape in ((3, 2, 4, size), (4, *BATCH, size), (*BATCH, 4, size + 1), (*BATCH, size, 4), (4, size), (size,)):
        if shape != (*BATCH, 4, size):
            assert_refused(
                name, {"samples": torch.zeros(shape, dtype=torch.int64)}, rf"samples of shape \(2, 3, H, {size}\)"
            )
    assert_refused(name, {"samples": None}, r"samples= or a generator= to draw them with, got neither")


@pytest.mark.parametrize("name", ESTIMATES)
@pytest.mark.parametrize("place", ["first", "second"])
def test_points_have_their_coordinates_last_and_one_batch(name, place):
    point = arguments(name)[place]
    for wrong, message in (
        (point.mT.contiguous(), r"of shape \(..., N, \d\), got \(2, 3, \d, 7\)"),
        (point[0, 0, 0], r"of shape \(..., N, \d\), got"),
        (point[:1], "of shape "),
        (point[..., :5, :], "of shape "),
        (point.long(), "in float32 or float64, got torch.int64"),
        (point.tolist(), "as a tensor, got list"),
    ):
        assert_refused(name, {place: wrong}, rf"\w+ {message}")
    assert_refused(name, {"second": arguments(name)["second"].to("meta")}, r"\w+ on cpu as \w+ is, got meta")


@pytest.mark.parametrize("name", ["relative pose", "fundamental matrix", "homography"])
def test_both_images_have_one_dtype(name):
    assert_refused(
        name, {"second": arguments(name)["second"].double()}, "x2 in torch.float32 as x1 is, got torch.float64"
    )


def test_world_points_may_be_wider_than_image_points():
    given = arguments("absolute pose")
    assert call("absolute pose", **{**given, "first": given["first"].double()}).R.dtype == torch.float64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ESTIMATES)
def test_a_generator_of_another_device_is_refused(name):
    given = {**arguments(name, "cuda"), "samples": None, "generator": torch.Generator()}
    with pytest.raises(InputError, match=r"^expected a generator on cuda"):
        call(name, **given)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hypotheses", 1.5), ("tile", 2.5), ("tile", True), ("num_refined", "8"), ("resamples", None), ("tile", 8.0)],
)
def test_counts_are_whole_numbers(name, value):
    options = RansacOptions()
    object.__setattr__(options, name, value)  # past the checks of annotations
    with pytest.raises(InputError, match=rf"^expected {name} as a whole number, got {value!r}; the default is [^\n]+$"):
        options.__post_init__()


def test_the_estimator_of_a_step_asks_for_noise_of_its_problems():
    points, mask, K = torch.zeros(2, 3, 9, 2), torch.ones(2, 3, 9, dtype=torch.bool), torch.eye(3).expand(2, 3, 3, 3)
    matches = Correspondences(points, points, points, points, mask.float(), mask, K, K)
    for shape in ((3, 2, 128, 5), (2, 3, 128, 4), (2, 3, 5)):
        with pytest.raises(InputError, match=r"^expected noise of shape \(2, 3, 128, 5\), got"):
            inspect.unwrap(RelativePoseEstimator.__call__)(RelativePoseEstimator(), matches, torch.rand(shape))
