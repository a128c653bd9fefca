"""Laws of pretraining: labels stand where they must, a run learns, repeats itself, resumes, and says what is wrong."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import rfp
from rfp.data import HomographyOptions, PosedPairs, draw_homography_pairs
from rfp.models import Aliked, Disk, SuperPoint, Tiny
from rfp.models.pretrained import load_weights
from rfp.records import InputError
from rfp.training import HomographyViews, Pretrainer, PretrainingOptions, label_sources, load_sources
from rfp.training.metrics_log import read_metrics
from rfp.training.options import JudgeOptions
from rfp.training.pretraining import deployable, learning_rate_factor
from rfp.training.pretraining_labels import corner_heat, heat_of_network, key_points_of_heat
from tests.networks import TinyTestNetwork

OPTIONS = PretrainingOptions(
    steps=6,
    seconds=float("inf"),
    pairs_per_step=2,
    points=32,
    checkpoint_every=3,
    validate_every=3,
    log_every=2,
    judge=JudgeOptions(num_keypoints=64),
)
VIEWS = HomographyOptions(image_size=(48, 48))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def textures():
    return load_sources(None, textures=2, size=96, generator=generator())


@pytest.fixture(scope="module")
def views(textures) -> HomographyViews:
    return HomographyViews(textures, *label_sources(None, textures, count=64, generator=generator()), views=VIEWS)


def weights(network: nn.Module):
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one, two):
    return one.keys() == two.keys() and all(bool((one[name] == two[name]).all()) for name in one)


def squares() -> torch.Tensor:
    """A grey image with two bright squares, whose corners lie between the pixels: (x, y) of all eight."""
    image = torch.full((1, 3, 96, 96), 60, dtype=torch.uint8)
    image[..., 20:40, 24:52] = 200
    image[..., 60:80, 50:76] = 220
    return image


CORNERS = torch.tensor(
    [[23.5, 19.5], [51.5, 19.5], [23.5, 39.5], [51.5, 39.5], [49.5, 59.5], [75.5, 59.5], [49.5, 79.5], [75.5, 79.5]]
)


def test_corners_are_labelled_where_they_are_and_nowhere_else():
    """Within the width of the smoothing: the structure tensor's peak lies up to 1.5 px inside of the corner."""
    key_points, descriptors = label_sources(None, squares(), count=32, adaptations=4, generator=generator())
    assert descriptors is None
    found = key_points[0][key_points[0, :, 2] > 0.3, :2]
    distance = torch.cdist(found, CORNERS)
    assert float(distance.min(dim=0).values.max()) < 2.3, "every corner is found"
    assert float(distance.min(dim=1).values.max()) < 2.5, "and nothing else that is strong"


def test_the_heat_of_a_network_is_relative_to_its_strongest_pixel_and_knows_no_constant():
    class Shifted(TinyTestNetwork):
        def extract(self, images):
            dense = super().extract(images)
            return replace(dense, log_heat=dense.log_heat + 7.0)

    images = torch.rand(2, 3, 32, 40, generator=generator())
    heat = heat_of_network(TinyTestNetwork())(images)
    assert heat.amax((1, 2)).tolist() == [1.0, 1.0]
    assert torch.allclose(heat_of_network(Shifted())(images), heat, atol=1e-5)


def test_a_blank_image_has_no_corners_and_no_labels():
    heat = corner_heat(torch.full((1, 3, 32, 32), 0.5))
    assert float(heat.max()) == 0
    assert float(key_points_of_heat(heat, 8)[..., 2].max()) == 0


def test_key_points_of_heat_are_its_peaks_to_a_fraction_of_a_pixel():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")
    peaks = ((12.3, 9.0, 1.0), (25.0, 20.6, 0.5))
    heat = sum(value * torch.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 1.2) for at_x, at_y, value in peaks)
    assert isinstance(heat, torch.Tensor)
    found = key_points_of_heat(heat[None], 5)[0]
    assert (found[:, 2] > 0).sum() == 2
    for (at_x, at_y, _), row in zip(peaks, found[:2]):
        assert row[:2].tolist() == pytest.approx([at_x, at_y], abs=0.15)


def test_labels_of_the_views_are_the_sources_labels_through_the_homography(views):
    """Point n of the first view goes to point n of the second by H, and both teach only where both views show it."""
    pairs = draw_homography_pairs(views.sources, 4, options=VIEWS, generator=generator(3))
    labelled = views.labelled(pairs)
    first = torch.cat([labelled.first.xy_px, torch.ones(4, 64, 1)], dim=-1) @ pairs.H.mT
    moved = first[..., :2] / first[..., 2:]
    assert bool(labelled.seen.any())
    assert float((moved - labelled.second.xy_px).abs().amax(-1)[labelled.seen].max()) < 0.01
    for view in (labelled.first, labelled.second):
        assert bool((view.weight[labelled.seen] > 0).all())
        at = view.xy_px[view.weight > 0]
        assert bool(((at > 4) & (at < 43)).all()), "no label at the border"


def test_the_teachers_descriptors_come_with_the_labels_when_asked_for(textures):
    teacher = TinyTestNetwork()
    key_points, descriptors = label_sources(
        teacher, textures, count=16, with_descriptors=True, generator=generator(), on_batch=lambda count: None
    )
    assert teacher.training, "as it was before"
    assert descriptors is not None
    dense = teacher.extract(textures[:1] / 255)
    expected = teacher.describe(dense, key_points[:1, :, :2])
    assert torch.allclose(descriptors[0].float(), expected[0].detach(), atol=2e-3)
    with pytest.raises(InputError, match="corners have no descriptors"):
        label_sources(None, textures, with_descriptors=True, generator=generator())


class SameViews:
    """One batch at every step: what a network must be able to learn by heart."""

    def __init__(self, views):
        self.batch = views.draw(2, step=0, generator=generator(1))

    def __repr__(self):
        return "SameViews"

    def draw(self, count, *, step, generator):
        return self.batch


def test_a_run_on_fixed_views_lowers_each_loss(views):
    network = Tiny(batch_norm=True)
    options = replace(OPTIONS, steps=16, augment=False, learning_rate=5e-3)
    rows = Pretrainer(network, options, from_scratch=True).fit(SameViews(views)).metrics
    for name, factor in (("matching_loss", 0.6), ("heat_loss", 0.95)):
        assert rows[-1][name] < factor * rows[0][name], name
    assert rows[-1]["nearest_is_right"] > 2 * rows[0]["nearest_is_right"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(views):
    results = []
    for seed in (0, 0, 1):
        network = TinyTestNetwork()
        before = torch.get_rng_state()
        Pretrainer(network, replace(OPTIONS, seed=seed, steps=3)).fit(views)
        assert (torch.get_rng_state() == before).all()
        results.append(weights(network))
    assert equal(results[0], results[1])
    assert not equal(results[0], results[2])


@pytest.mark.parametrize("from_scratch", [True, False])
def test_a_resumed_run_ends_where_an_uninterrupted_one_ends_bit_for_bit(
    views, session_pairs_folder, tmp_path, from_scratch
):
    def fit(network, steps, name, resume=False):
        # The schedule follows the number of steps, so the whole of it is said from the beginning.
        pretrainer = Pretrainer(network, replace(OPTIONS, steps=steps, learning_rate=1e-3), from_scratch=from_scratch)
        return pretrainer.fit(views, validation=validation, output=tmp_path / name, resume=resume)

    def make():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Tiny(batch_norm=True)

    pairs = PosedPairs(session_pairs_folder, image_size=96)
    validation = [pairs[0], pairs[1]]
    whole, parted, fresh = make(), make(), make()
    one = fit(whole, 6, "whole")
    interrupt_after(3, lambda: fit(parted, 6, "parted"))
    two = fit(fresh, 6, "parted", resume=True)
    assert equal(weights(whole), weights(fresh))
    for file in ("last.safetensors", "weights.safetensors"):
        last = [load_weights(Tiny(), tmp_path / name / file).state_dict() for name in ("whole", "parted")]
        assert equal(*last)
    assert one.validations == two.validations
    assert [row["step"] for row in one.validations] == ([] if from_scratch else [0]) + [3, 6]
    rows = [
        [{**row, "seconds": 0} for row in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "parted")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [1, 2, 3, 4, 5, 6]


def interrupt_after(steps, fit):
    """Ask a run to stop, as Ctrl-C does, in its step of this number."""
    original = Pretrainer.gradient_step
    done = []

    def step(self, *arguments):
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    Pretrainer.gradient_step = step
    try:
        with pytest.raises(KeyboardInterrupt, match=f"after step {steps} of 6; go on by resuming"):
            fit()
    finally:
        Pretrainer.gradient_step = original


def test_the_statistics_of_batch_norm_move_only_from_scratch_and_modes_are_put_back(views):
    for from_scratch in (True, False):
        network = Tiny(batch_norm=True).train(not from_scratch)
        before = {name: value.clone() for name, value in network.named_buffers()}
        Pretrainer(network, replace(OPTIONS, steps=2), from_scratch=from_scratch).fit(views)
        same = all(torch.equal(before[name], value) for name, value in network.named_buffers())
        assert same is not from_scratch
        assert network.training is not from_scratch


def test_the_weights_of_a_run_are_the_network_without_batch_norm(views, tmp_path):
    network = Tiny(batch_norm=True)
    Pretrainer(network, OPTIONS, from_scratch=True).fit(views, output=tmp_path)
    loaded = rfp.load_network(tmp_path)
    assert isinstance(loaded, Tiny)
    image = torch.rand(1, 3, 64, 64, generator=generator())
    expected, found = network.eval().extract(image), loaded.extract(image)
    assert torch.allclose(found.log_heat, expected.log_heat, atol=1e-4)
    assert equal(weights(deployable(network)), weights(loaded))


def test_frozen_parameters_stay_and_the_others_move(views):
    network = TinyTestNetwork()
    before = weights(network)
    Pretrainer(network, replace(OPTIONS, frozen=("heat.*",))).fit(views)
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"patches.weight", "descriptors.weight"}


def test_a_run_ends_when_its_seconds_are_over_and_can_be_given_more(views, tmp_path):
    options = replace(OPTIONS, steps=10**6, seconds=1e-6)
    assert Pretrainer(TinyTestNetwork(), options).fit(views, output=tmp_path).steps == 1
    more = replace(options, seconds=float("inf"), steps=3)
    assert Pretrainer(TinyTestNetwork(), more).fit(views, output=tmp_path, resume=True).steps == 3
    assert json.loads((tmp_path / "options.json").read_text())["pretraining"]["seconds"] == "inf"


def test_the_rate_rises_falls_and_ends_at_zero():
    factors = [learning_rate_factor(step, step / 10000) for step in range(0, 10001, 10)]
    top = factors.index(max(factors))
    assert factors[:top] == sorted(factors[:top])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-9)
    assert max(factors) > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps of at least 1"),
        ({"seconds": 0.0}, "seconds above 0"),
        ({"seconds": float("nan")}, "seconds above 0"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"learning_rate": -1.0}, "learning_rate above 0"),
        ({"heat_weight": -1.0}, "heat_weight of at least 0"),
        ({"averaging": 1.0}, "averaging"),
    ],
)
def test_options_that_cannot_work_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(OPTIONS, **change)


def test_what_cannot_be_pretrained_is_refused_in_one_line(views, tmp_path):
    with pytest.raises(InputError, match="methods extract and describe"):
        Pretrainer(nn.Linear(2, 2))
    with pytest.raises(InputError, match="matches no parameter"):
        Pretrainer(TinyTestNetwork(), replace(OPTIONS, frozen=("nothing",)))
    with pytest.raises(InputError, match="run folder to resume from"):
        Pretrainer(TinyTestNetwork(), OPTIONS).fit(views, resume=True)
    Pretrainer(TinyTestNetwork(), OPTIONS).fit(views, output=tmp_path)
    with pytest.raises(InputError, match="a run is there already"):
        Pretrainer(TinyTestNetwork(), OPTIONS).fit(views, output=tmp_path)
    with pytest.raises(InputError, match="the run began with points 32, now it is 16"):
        Pretrainer(TinyTestNetwork(), replace(OPTIONS, points=16)).fit(views, output=tmp_path, resume=True)
    with pytest.raises(InputError, match="began with data"):
        Pretrainer(TinyTestNetwork(), OPTIONS).fit(SameViews(views), output=tmp_path, resume=True)


@pytest.mark.parametrize(
    "make", [Aliked, lambda: SuperPoint(batch_norm=True), Disk], ids=["aliked", "superpoint", "disk"]
)
def test_other_networks_go_on_with_frozen_statistics(make, views):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make()
    before = weights(network)
    statistics = [name for name in before if "running" in name]
    row = Pretrainer(network, replace(OPTIONS, steps=1, pairs_per_step=1)).fit(views).metrics[-1]
    after = network.state_dict()
    assert 0 < row["loss"] < float("inf")
    assert all(torch.equal(before[name], after[name]) for name in statistics)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > 0.5 * len(list(network.parameters()))
