"""Laws of the low-level losses: each equals a plain reference on small cases, and masked points change nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from rfp.data import HomographyOptions, draw_homography_pairs
from rfp.data.augmentation import PhotometricAugmentation
from rfp.data.homographies import homography_pairs_on_noise
from rfp.models import Tiny
from rfp.training.pretraining import Pretrainer, follow
from rfp.training.pretraining_losses import (
    LabelledPairs,
    LabelledView,
    descriptor_loss,
    detector_loss,
    distillation_loss,
    low_level_loss,
)
from rfp.training.pretraining_options import PretrainingOptions
from rfp.training.pretraining_sources import HomographyViews
from tests.networks import TinyTestNetwork
from tests.sync_deny_list import no_host_visits


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def descriptors(*shape, seed):
    return normalize(torch.randn(*shape, generator=generator(seed), dtype=torch.float64), dim=-1)


def plain_detector_loss(log_heat, inside, xy, weight):
    total = 0.0
    for image in range(len(log_heat)):
        mass = sum(math.exp(v) for v, yes in zip(log_heat[image].flatten(), inside[image].flatten()) if yes)
        share = weight[image] / weight[image].sum()
        for (x, y), part in zip(xy[image].tolist(), share.tolist()):
            if part == 0:
                continue
            for column in (math.floor(x), math.floor(x) + 1):
                for row in (math.floor(y), math.floor(y) + 1):
                    near = (1 - abs(x - column)) * (1 - abs(y - row))
                    total -= part * near * (float(log_heat[image, row, column]) - math.log(mass))
    return total / len(log_heat)


def test_the_detector_loss_is_the_cross_entropy_with_bilinear_labels():
    log_heat = torch.randn(2, 7, 9, generator=generator(), dtype=torch.float64)
    inside = torch.ones(2, 7, 9, dtype=torch.bool)
    inside[0, :, 7:] = False
    xy = torch.tensor([[[2.25, 3.5], [4.0, 1.0], [5.9, 4.75]], [[1.1, 1.2], [3.0, 4.5], [300.0, -7.0]]]).double()
    weight = torch.tensor([[1.0, 0.5, 0.25], [0.3, 0.7, 0.0]]).double()
    loss = detector_loss(log_heat, inside, xy, weight)
    assert float(loss) == pytest.approx(plain_detector_loss(log_heat, inside, xy, weight), abs=1e-9)


def test_the_detector_loss_is_least_where_the_heat_has_the_mean_position_of_the_label():
    log_heat = torch.zeros(1, 7, 9, requires_grad=True)
    optimizer = torch.optim.Adam([log_heat], lr=1.0)
    inside, xy, weight = torch.ones(1, 7, 9).bool(), torch.tensor([[[4.25, 3.5]]]), torch.ones(1, 1)
    for _ in range(60):
        optimizer.zero_grad()
        detector_loss(log_heat, inside, xy, weight).backward()
        optimizer.step()
    p = torch.softmax(log_heat.detach().flatten(), 0).view(7, 9)
    assert float((p.sum(0) * torch.arange(9)).sum()) == pytest.approx(4.25, abs=0.02)
    assert float((p.sum(1) * torch.arange(7)).sum()) == pytest.approx(3.5, abs=0.02)


def test_an_image_without_labels_costs_nothing_and_has_no_gradient():
    log_heat = torch.randn(1, 7, 9, generator=generator(), requires_grad=True)
    loss = detector_loss(log_heat, torch.ones(1, 7, 9).bool(), torch.full((1, 3, 2), 1e6), torch.zeros(1, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert log_heat.grad is not None
    assert float(log_heat.grad.abs().max()) == 0


def points_and_mask():
    """Twelve points, of which 0 and 1 are near each other in the second view, 2 and 3 in the first; 5 is not seen."""
    xy1 = 20.0 * torch.arange(12)[:, None].repeat(1, 2).double()[None]
    xy2 = xy1.clone()
    xy2[0, 1] = xy2[0, 0] + 1.5
    xy1[0, 3] = xy1[0, 2] + 2.0
    seen = torch.ones(1, 12, dtype=torch.bool)
    seen[0, 5] = False
    return xy1, xy2, seen


def plain_descriptor_loss(d1, d2, near, seen, temperature):
    total, right = 0.0, 0.0
    indices = [i for i in range(len(seen)) if seen[i]]
    for one, two in ((d1, d2), (d2, d1)):
        for i in indices:
            candidates = [j for j in indices if j == i or not near(i, j)]
            values = {j: float(one[i] @ two[j]) / temperature for j in candidates}
            total -= values[i] - math.log(sum(math.exp(v) for v in values.values()))
            right += max(values, key=lambda j: values[j]) == i
    return total / len(indices) / 2, right / len(indices) / 2


def test_the_descriptor_loss_is_info_nce_without_indistinct_negatives():
    xy1, xy2, seen = points_and_mask()
    d1 = descriptors(1, 12, 8, seed=1)
    d2 = normalize(d1 + 0.4 * descriptors(1, 12, 8, seed=2), dim=-1)
    loss, right = descriptor_loss(d1, d2, xy1, xy2, seen, 0.1)
    excused = ({0, 1}, {2, 3})
    expected = plain_descriptor_loss(d1[0], d2[0], lambda i, j: {i, j} in excused, seen[0], 0.1)
    assert (float(loss), float(right)) == pytest.approx(expected, abs=1e-6)
    with_all, _ = plain_descriptor_loss(d1[0], d2[0], lambda i, j: False, seen[0], 0.1)
    assert abs(with_all - float(loss)) > 1e-3, "the case tells the two apart"


def plain_distillation_loss(d1, d2, teacher, seen, temperature):
    total = 0.0
    indices = [i for i in range(len(seen)) if seen[i]]
    for one, two in ((d1, d2), (d2, d1)):
        for i in indices:
            q = torch.softmax(torch.stack([teacher[i] @ teacher[j] for j in indices]) / temperature, 0)
            p = torch.softmax(torch.stack([one[i] @ two[j] for j in indices]) / temperature, 0)
            total += float((q * (q / p).log()).sum())
    return total / len(indices) / 2


def test_the_distillation_loss_is_the_divergence_of_similarities_whatever_the_dimensions():
    seen = points_and_mask()[2]
    d1, d2, teacher = descriptors(1, 12, 8, seed=1), descriptors(1, 12, 8, seed=2), descriptors(1, 12, 16, seed=3)
    loss = distillation_loss(d1, d2, teacher, seen, 0.2)
    assert float(loss) == pytest.approx(plain_distillation_loss(d1[0], d2[0], teacher[0], seen[0], 0.2), abs=1e-6)


def test_descriptors_related_as_the_teachers_cost_nothing():
    """The teacher turned by a rotation: other descriptors, the same relations."""
    teacher = descriptors(1, 12, 8, seed=3)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=generator(4), dtype=torch.float64)).Q
    seen = points_and_mask()[2]
    turned = teacher @ rotation
    assert abs(float(distillation_loss(turned, turned, teacher, seen, 0.1))) < 1e-9
    assert float(distillation_loss(turned, descriptors(1, 12, 8, seed=5), teacher, seen, 0.1)) > 0.1


def test_no_point_seen_is_no_loss_and_no_nan():
    none = torch.zeros(1, 12, dtype=torch.bool)
    d = descriptors(1, 12, 8, seed=1).requires_grad_()
    xy1, xy2, _ = points_and_mask()
    loss = descriptor_loss(d, d, xy1, xy2, none, 0.1)[0] + distillation_loss(d, d, d.detach(), none, 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert d.grad is not None
    assert float(d.grad.abs().max()) == 0


def pairs_of_sizes(size1, size2):
    def view(height, width):
        images = torch.rand(2, 3, height, width, generator=generator(height))
        xy = 8 + 20 * torch.rand(2, 10, 2, generator=generator(1))
        return LabelledView(images, torch.ones(2, height, width).bool(), xy, torch.ones(2, 10))

    return LabelledPairs(view(*size1), view(*size2), torch.ones(2, 10).bool())


def test_views_of_two_sizes_are_computed_apart_and_of_one_size_together():
    """In eval mode a batch changes nothing: cropping by hand gives the same loss as one batch."""
    options = PretrainingOptions(augment=False, jitter_px=0.0, points=10)
    same = pairs_of_sizes((40, 48), (40, 48))
    network = TinyTestNetwork().eval()
    together = low_level_loss(network, same, options, generator())
    heat = [
        detector_loss(network.extract(view.images).log_heat, view.inside, view.xy_px, view.weight)
        for view in (same.first, same.second)
    ]
    assert float(together["heat_loss"].detach()) == pytest.approx(float(sum(heat).detach()) / 2, abs=1e-5)
    apart = low_level_loss(network, pairs_of_sizes((40, 48), (48, 40)), options, generator())
    assert apart["loss"].isfinite()


def test_a_weight_of_zero_leaves_its_term_out():
    pairs = pairs_of_sizes((40, 48), (40, 48))
    pairs = replace(pairs, teacher=descriptors(2, 10, 4, seed=1).float())
    options = PretrainingOptions(augment=False, points=10)
    network = TinyTestNetwork().eval()
    parts = low_level_loss(network, pairs, replace(options, heat_weight=0.0), generator())
    assert parts.keys() == {"loss", "matching_loss", "nearest_is_right"}
    assert float(parts["loss"].detach()) == float(parts["matching_loss"])
    parts = low_level_loss(network, pairs, replace(options, distillation_weight=2.0), generator())
    expected = parts["matching_loss"] + 0.5 * parts["heat_loss"] + 2.0 * parts["distillation_loss"]
    assert float(parts["loss"].detach()) == pytest.approx(float(expected), rel=1e-6)


def pretraining_step(device: str, augment: bool):
    """One step from drawing the pairs to the averaged weights, on ``device``."""
    network = Tiny(batch_norm=True).to(device)
    average = Tiny(batch_norm=True).to(device)
    sources = torch.zeros(3, 3, 64, 64, dtype=torch.uint8, device=device)
    views = HomographyViews(
        sources,
        torch.ones(3, 32, 3, device=device),
        torch.rand(3, 32, 8, device=device),
        views=HomographyOptions(image_size=(32, 48)),
    )
    options = PretrainingOptions(points=16, augment=augment, distillation_weight=1.0)
    pretrainer = Pretrainer(network, options, from_scratch=True)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device == "cuda")
    # meta has no generators; a CPU one serves
    draw = torch.Generator(device if device == "cuda" else "cpu")
    source = torch.zeros(2, dtype=torch.long, device=device)
    uniforms = torch.rand(2, 2, 8, device=device)

    def step():
        pairs = views.labelled(homography_pairs_on_noise(sources, source, uniforms, views.views))
        metrics = pretrainer.gradient_step([pairs], optimizer, draw)
        follow(average, network, 0.9)
        return metrics

    return step


def test_a_pretraining_step_runs_without_data_under_the_deny_list():
    """Without the photometric changes: kornia uploads its blur by itself, without waiting, on a GPU."""
    step = pretraining_step("meta", augment=False)
    with no_host_visits():
        metrics = step()
    assert all(value.device.type == "meta" for value in metrics.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pretraining_step_never_waits_on_a_gpu():
    step = pretraining_step("cuda", augment=True)
    step()  # lazy initialisation may synchronise
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_augmentation_is_what_the_options_say():
    """Black outside whatever the light, and no change at all without it."""
    sources = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    pairs = draw_homography_pairs(sources, 2, options=HomographyOptions(image_size=(32, 32)), generator=generator())
    views = HomographyViews(sources, torch.ones(1, 4, 3), views=HomographyOptions(image_size=(32, 32)))
    seen = []

    class Watching(TinyTestNetwork):
        def extract(self, images):
            seen.append(images)
            return super().extract(images)

    for augmentation in (PhotometricAugmentation(brightness=0.2), None):
        options = PretrainingOptions(points=4, augment=augmentation is not None)
        options = replace(options, augmentation=augmentation or options.augmentation)
        low_level_loss(Watching(), views.labelled(pairs), options, generator())
    changed, plain = seen
    inside = torch.cat([pairs.inside1, pairs.inside2])[:, None]
    assert torch.equal(plain, torch.cat([pairs.images1, pairs.images2]) * inside)
    assert not torch.allclose(changed, plain, atol=0.01)
    assert float((changed * ~inside).abs().max()) == 0
