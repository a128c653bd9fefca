"""Laws of labelled pairs of scenes: counterparts are where the geometry says, and nothing hidden or wrong teaches."""

from dataclasses import replace

import pytest
import torch

from rfp.data import PosedPairs
from rfp.data.loading import batch_indices
from rfp.data.synthetic import RenderedPairs, SceneOptions
from rfp.data.synthetic.pairs import posed_pairs
from rfp.data.synthetic.rendering import draw_rendering_noise, render_on_noise
from rfp.evaluation.matching import epipolar_error_px
from rfp.models import load_pretrained
from rfp.records import map_tensors
from rfp.training import PosedViews, Pretrainer, PretrainingOptions, RenderedViews, verified_matches
from rfp.training.pretraining_pairs import counterparts, exact_labels
from rfp.training.run_identity import stream_seed
from tests.networks import TinyTestNetwork
from tests.sync_deny_list import no_host_visits

SCENES = SceneOptions.easy(image_size=(96, 128), num_textures=4, texture_size=64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def stream():
    return RenderedPairs(SCENES)


@pytest.fixture(scope="module")
def batch(stream):
    return stream.render(3, generator=generator(5))


def wall(x: float, y: float, shift: float):
    """Two cameras side by side before a wall at depth 4 and, left of the column 30, a nearer one at depth 2."""
    K = torch.tensor([[50.0, 0.0, 31.5], [0.0, 50.0, 23.5], [0.0, 0.0, 1.0]])[None]
    depth = torch.full((1, 48, 64), 4.0)
    depth[..., :30] = 2.0
    t = torch.tensor([[shift, 0.0, 0.0]])
    return counterparts(torch.tensor([[[x, y]]]), (depth, depth), (K, K), torch.eye(3)[None], t)


def test_a_counterpart_lies_where_the_depth_says():
    """Moved by f · shift / z pixels: 50 · 0.4 / 4 on the far wall, between the pixels too."""
    xy, seen = wall(45.25, 20.5, 0.4)
    assert bool(seen)
    assert xy[0, 0].tolist() == pytest.approx([50.25, 20.5], abs=1e-4)


def test_no_counterpart_where_the_view_ends_hides_it_or_where_depth_has_an_edge():
    assert not bool(wall(58.0, 20.5, 0.4)[1]), "beyond the border"
    assert not bool(wall(32.0, 20.5, -0.4)[1]), "behind the near wall, as the other camera sees it"
    assert not bool(wall(29.5, 20.5, 0.0)[1]), "on the edge"
    assert bool(wall(27.0, 20.5, 0.0)[1])


def test_counterparts_return_to_where_they_came_from(batch):
    """There and back by the depths of both views, on points of every kind of surface."""
    xy = 6 + torch.rand(3, 200, 2, generator=generator()) * torch.tensor([114.0, 82.0])
    depths, cameras = (batch.depth[:, 0], batch.depth[:, 1]), (batch.K[:, 0], batch.K[:, 1])
    there, seen = counterparts(xy, depths, cameras, batch.R, batch.t)
    back = -(batch.R.mT @ batch.t[..., None])[..., 0]
    again, seen_again = counterparts(there, depths[::-1], cameras[::-1], batch.R.mT, back)
    both = seen & seen_again
    assert float(both.float().mean()) > 0.3
    assert float((again - xy).norm(dim=-1)[both].quantile(0.99)) < 0.3
    assert float((again - xy).norm(dim=-1)[both].median()) < 0.01


def through_the_world(batch, view: int, xy):
    """Where the other camera sees what this one sees at whole pixels: depth, world point, projection."""
    x, y = xy.long().unbind(-1)
    other, row = 1 - view, torch.arange(len(xy))[:, None]
    rays = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1) @ batch.K[:, view].inverse().mT
    world = (rays * batch.depth[:, view][row, y, x][..., None]) @ batch.R_world[:, view] + batch.centre[:, None, view]
    seen = (world - batch.centre[:, None, other]) @ batch.R_world[:, other].mT @ batch.K[:, other].mT
    return seen[..., :2] / seen[..., 2:]


def test_labels_agree_with_the_true_pose_and_come_from_either_view(batch):
    xy = (6 + torch.rand(3, 2, 50, 2, generator=generator()) * torch.tensor([114.0, 82.0])).round()
    valid = torch.ones(3, 2, 50, dtype=torch.bool)
    valid[:, :, 40:] = False
    labels = exact_labels(batch, xy, valid, max_error_px=2.0)
    assert labels.seen.shape == (3, 100)
    assert torch.equal(labels.first.xy_px[:, :50], xy[:, 0])
    assert torch.equal(labels.second.xy_px[:, 50:], xy[:, 1])
    assert not bool(labels.seen[:, 40:50].any() | labels.seen[:, 90:].any())
    assert bool(labels.seen[:, :40].any() & labels.seen[:, 50:90].any())
    for view, half, there in ((0, slice(0, 50), labels.second), (1, slice(50, 100), labels.first)):
        away = (there.xy_px[:, half] - through_the_world(batch, view, xy[:, view])).norm(dim=-1)
        assert float(away[labels.seen[:, half]].max()) < 0.02
    for number, pair in enumerate(posed_pairs(batch)):
        seen = labels.seen[number]
        points = labels.first.xy_px[number][seen], labels.second.xy_px[number][seen]
        assert float(epipolar_error_px(*points, pair.K1, pair.K2, pair.R, pair.t).max()) < 0.02


def test_what_the_teacher_finds_in_one_view_only_is_no_label_of_the_detector(batch):
    """Key points of the second view are counterparts of those of the first, but for half of them, far off."""
    xy1 = 6 + torch.rand(3, 40, 2, generator=generator()) * torch.tensor([114.0, 82.0])
    depths, cameras = (batch.depth[:, 0], batch.depth[:, 1]), (batch.K[:, 0], batch.K[:, 1])
    there, seen = counterparts(xy1, depths, cameras, batch.R, batch.t)
    there[:, 20:] = 0.0  # at the corner, where nothing lands
    valid = torch.ones(3, 2, 40, dtype=torch.bool)
    labels = exact_labels(batch, torch.stack([xy1, there], dim=1), valid, max_error_px=0.5)
    assert torch.equal(labels.first.weight[:, :20] > 0, seen[:, :20])
    alone = labels.first.weight[:, 20:40] > 0
    near = torch.cdist(counterparts(xy1, depths, cameras, batch.R, batch.t)[0][:, 20:], there[:, :20]).amin(-1) < 0.5
    assert not bool((alone & ~near).any())
    assert bool(labels.seen[:, 20:40].any()), "they teach the descriptors all the same"


def test_rendered_views_are_the_trainers_pairs_and_teach(stream):
    views = RenderedViews(stream, None, count=64, seed=3)
    drawn = views.draw(2, step=7, generator=generator())[0]
    expected = stream.draw(2, generator=generator(stream_seed(3, 7)))
    assert torch.equal(drawn.first.images, torch.stack([pair.image1 for pair in expected]))
    assert torch.equal(drawn.second.images, torch.stack([pair.image2 for pair in expected]))
    assert int(drawn.seen.sum()) > 20
    network = TinyTestNetwork()
    before = [parameter.clone() for parameter in network.parameters()]
    options = PretrainingOptions(steps=2, seconds=float("inf"), pairs_per_step=2, points=32)
    summary = Pretrainer(network, options).fit(RenderedViews(stream, network, count=64))
    assert summary.metrics[-1]["matching_loss"] > 0
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters()))


def test_labelling_rendered_pairs_visits_the_host_nowhere():
    noise = draw_rendering_noise(2, SCENES, generator=generator())
    bank = RenderedPairs(SCENES).bank(torch.device("cpu"))
    on_meta = [map_tensors(record, lambda tensor: tensor.to("meta")) for record in (noise, bank)]
    xy = torch.rand(2, 2, 16, 2, device="meta")
    valid = torch.ones(2, 2, 16, dtype=torch.bool, device="meta")
    with no_host_visits():
        labels = exact_labels(render_on_noise(*on_meta, SCENES), xy, valid, 1.0)
    assert labels.seen.device.type == "meta"


@pytest.fixture(scope="module")
def real_pairs(session_pairs_folder):
    """The folder's pairs, one of them upright where the others are wide."""
    pairs = list(PosedPairs(session_pairs_folder, image_size=128))
    return [*pairs[:2], replace(pairs[2], image2=pairs[2].image2[..., :100])]


def test_verified_matches_lie_on_the_true_epipolar_lines_and_wrong_poses_confirm_few(real_pairs):
    teacher = load_pretrained("tiny")
    matches = verified_matches(teacher, real_pairs, count=256, max_error_px=1.0)
    for number, pair in enumerate(real_pairs):
        kept = matches.valid[number]
        points = matches.xy1_px[number][kept], matches.xy2_px[number][kept]
        assert float(epipolar_error_px(*points, pair.K1, pair.K2, pair.R, pair.t).max()) < 1.0
    turned = [replace(pair, t=pair.t.roll(1)) for pair in real_pairs]
    backwards = [replace(pair, t=-pair.t) for pair in real_pairs]
    right = int(matches.valid.sum())
    assert right > 60
    assert int(verified_matches(teacher, turned, count=256).valid.sum()) < 0.5 * right
    assert int(verified_matches(teacher, backwards, count=256).valid.sum()) < 0.2 * right, "in front of both cameras"


def test_posed_views_are_the_trainers_pairs_in_batches_of_one_size(real_pairs):
    matches = verified_matches(TinyTestNetwork(), real_pairs, count=64)
    views = PosedViews(real_pairs, matches, seed=1)
    drawn = views.draw(3, step=2, generator=generator())
    chosen = batch_indices(2, 3, 3, 1)
    assert sorted(len(batch.seen) for batch in drawn) == [1, 2]
    found = []
    for batch in drawn:
        for image1, image2, seen, xy2 in zip(batch.first.images, batch.second.images, batch.seen, batch.second.xy_px):
            number = next(
                k
                for k, pair in enumerate(real_pairs)
                if torch.equal(pair.image1, image1) and torch.equal(pair.image2, image2)
            )
            found.append(number)
            assert torch.equal(seen, matches.valid[number])
            assert torch.equal(xy2, matches.xy2_px[number])
    assert sorted(found) == sorted(chosen)
    options = PretrainingOptions(steps=1, pairs_per_step=3, points=32)
    row = Pretrainer(TinyTestNetwork(), options).fit(views).metrics[-1]
    assert row["matching_loss"] > 0
    assert row["heat_loss"] > 0


def test_groups_of_sizes_weigh_as_their_pairs(real_pairs):
    """Three pairs in two groups have the mean over the pairs of each one's heat loss, and the mean of its gradients."""
    options = PretrainingOptions(augment=False, jitter_px=0.0, pairs_per_step=3, points=64, clip_norm=1e9)
    network = TinyTestNetwork().eval()
    views = PosedViews(real_pairs, verified_matches(network, real_pairs, count=64))
    pretrainer = Pretrainer(network, options)

    def step(batches):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
        loss = pretrainer.gradient_step(batches, optimizer, generator())["heat_loss"]
        assert network.heat.weight.grad is not None
        return torch.cat([loss[None], network.heat.weight.grad.flatten()])

    together = step(views.draw(3, step=0, generator=generator()))
    alone = torch.stack([step([views._labelled([(real_pairs[k], k)])]) for k in range(3)])
    assert torch.allclose(together, alone.mean(0), rtol=1e-3, atol=1e-5)
