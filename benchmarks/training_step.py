"""One training step, ours against the original's way, in one run: the time beside the network, and the sampled poses.

    RFP_DATA=... python benchmarks/training_step.py [--quick] [--json docs/results/training_step.json]

The setting of Reinforced Feature Points: one pair, 600 key points with replacement from all pixels, half of the mutual
matches, 3 x 3 draws, the same network (aliked-t16, 320 px) and the same threshold for both.

- ours: ``rfp.rollout`` in paper mode, ``surrogate_loss``, backward.
- the original's way, written anew from its description: draws by numpy, matching by cv2.BFMatcher with cross-check,
  nine calls of cv2.findEssentialMat and cv2.recoverPose one after another, the mean baseline, backward.
- each key point: the recipe of ``TrainerOptions.each_key_point`` (384 key points, one draw, no pose to wait for), but
  for positions, which stay where they are drawn.

"Beside the network" is everything but ``extract`` and ``describe`` and their backward pass, the same for both.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from machine import machine
from report_sets import data_root, keyed_auc
from torch import Tensor, nn

import rfp
from rfp.geometry.camera import normalize_points, normalized_threshold
from rfp.geometry.pose import relative_pose_error
from rfp.records import DenseFeatures, PosedPair
from rfp.rewards import pose_error
from rfp.rollout import RolloutOptions
from rfp.training import TrainerOptions
from rfp.training.checkpoint import write_json
from rfp.training.objective import loss_of_rollout, reward_by_options

SETS = ("sceaux_castle", "lund_door", "ngp_fox")
NUM_KEYPOINTS, DRAWS = 600, 3
OURS = {
    "ours": RolloutOptions().ransac,
    "ours, lean": replace(
        RolloutOptions().ransac, resample_rounds=1, num_finalists=16, num_refined=4, refinement_iterations=5
    ),
}


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    json: Path | None = None
    """Where to write the figures."""
    quick: bool = False
    """Six pairs instead of forty-five."""
    max_error_px: float = 1.0
    """Of both estimators, in pixels at 320."""
    threads: int = 2
    """Of torch and of OpenCV."""
    device: str = "cpu"
    """Where ours runs; the original's way draws, matches and estimates on the CPU whatever this says."""


class TimedNetwork(nn.Module):
    """The network with a clock; what it returns are leaves, so that a backward pass ends where the network begins."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network, self.seconds = network, 0.0

    def _timed(self, function: Callable[[], Tensor | DenseFeatures]):
        synchronize(next(self.network.parameters()).device)
        started = time.perf_counter()
        with torch.no_grad():
            result = function()
        synchronize(next(self.network.parameters()).device)
        self.seconds += time.perf_counter() - started
        return result

    def extract(self, images: Tensor) -> DenseFeatures:
        dense: Any = self._timed(lambda: self.network.extract(images))  # type: ignore[operator]
        return DenseFeatures(log_heat=dense.log_heat.requires_grad_(), feature_map=dense.feature_map)

    def describe(self, features: DenseFeatures, xy_px: Tensor) -> Tensor:
        with_values: Any = self._timed(lambda: self.network.describe(features, xy_px))  # type: ignore[operator]
        return with_values.requires_grad_()


def synchronize(device: torch.device) -> None:
    """Wait for the device, where there is something to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def our_step(
    network: TimedNetwork, pair: PosedPair, options: Options, ransac: rfp.RansacOptions, generator: torch.Generator
) -> list[float]:
    """Errors in degrees of the nine sampled poses."""
    rollout_options = RolloutOptions.paper(max_error_px=options.max_error_px, ransac=ransac)
    rolled = rfp.rollout(network, [pair], options=rollout_options, generator=generator)
    rfp.surrogate_loss(rolled.reward, rolled.log_prob_keypoints, rolled.log_prob_matches, baseline="mean").backward()
    K1, K2, R, t = (value[None, None, None] for value in (pair.K1, pair.K2, pair.R, pair.t))
    truth = rfp.TwoViewGeometry(K1=K1, K2=K2, R=R, t=t, valid=rolled.valid[:, None, None])
    return pose_error(rolled.result, truth, fold_translation=True).rad2deg().flatten().tolist()


def each_key_point_step(network: TimedNetwork, pair: PosedPair, generator: torch.Generator) -> list[float]:
    """No sampled pose is judged: the recipe does not depend on one."""
    recipe = TrainerOptions.each_key_point()
    rollout_options = replace(recipe.rollout, position_gradient=False)
    rolled = rfp.rollout(
        network, [pair], options=rollout_options, generator=generator, reward=reward_by_options(recipe)
    )
    loss_of_rollout(rolled, recipe).backward()
    return []


def original_step(network: TimedNetwork, pair: PosedPair, options: Options, random: np.random.Generator) -> list[float]:
    """The same step as the original organises it: everything around the network on the CPU, one draw after another."""
    images = [pair.image1, pair.image2]
    same_size = images[0].shape == images[1].shape
    dense = [network.extract(torch.stack(images))] if same_size else [network.extract(image[None]) for image in images]
    heats = list(dense[0].log_heat) if same_size else [features.log_heat[0] for features in dense]
    log_p = [heat.flatten().log_softmax(0) for heat in heats]
    probabilities = [value.detach().double().exp().cpu().numpy() for value in log_p]
    K1, K2 = pair.K1[None].cpu(), pair.K2[None].cpu()
    threshold = float(normalized_threshold(options.max_error_px, K1, K2))

    log_prob_keypoints, log_prob_matches, losses, errors = [], [], [], []
    for _ in range(DRAWS):
        drawn, points, descriptors = [], [], []
        for side in range(2):
            p = probabilities[side] / probabilities[side].sum()
            index = random.choice(len(p), NUM_KEYPOINTS, p=p)
            width = heats[side].shape[1]
            drawn.append(torch.from_numpy(index).to(heats[side].device))
            points.append(np.stack([index % width, index // width], 1).astype(np.float32))
        for side in range(2):
            features = dense[0] if same_size else dense[side]
            both = torch.from_numpy(points[side])[None].to(heats[side].device)
            row = side if same_size else 0
            one = DenseFeatures(features.log_heat[row : row + 1], features.feature_map[row : row + 1])
            descriptors.append(network.describe(one, both)[0])
        log_prob_keypoints.append(sum(log_p[side][drawn[side]].sum() for side in range(2)))

        matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
        matches = matcher.match(descriptors[0].detach().cpu().numpy(), descriptors[1].detach().cpu().numpy())
        i, j = np.array([m.queryIdx for m in matches]), np.array([m.trainIdx for m in matches])
        distance = (descriptors[0][torch.from_numpy(i)] - descriptors[1][torch.from_numpy(j)]).norm(dim=1)
        log_p_matches = (-distance).log_softmax(0)
        p = log_p_matches.detach().double().exp().cpu().numpy()
        for _ in range(DRAWS):
            chosen = random.choice(len(p), max(1, len(p) // 2), p=p / p.sum())
            log_prob_matches.append(log_p_matches[torch.from_numpy(chosen)].sum())
            errors.append(estimate(points[0][i[chosen]], points[1][j[chosen]], pair, threshold))
            losses.append(errors[-1] if errors[-1] <= 25 else (25 * errors[-1]) ** 0.5)

    loss = torch.tensor(losses).reshape(DRAWS, DRAWS)
    surrogate = torch.zeros(())
    for s in range(DRAWS):
        surrogate = surrogate + (loss[s].mean() - loss.mean()) * log_prob_keypoints[s] / DRAWS
        for t in range(DRAWS):
            surrogate = surrogate + (loss[s, t] - loss[s].mean()) * log_prob_matches[DRAWS * s + t] / DRAWS**2
    surrogate.backward()
    return errors


def estimate(xy1: np.ndarray, xy2: np.ndarray, pair: PosedPair, threshold: float) -> float:
    """The error in degrees of one cv2 RANSAC, 180 where it fails."""
    if len(xy1) < 5:
        return 180.0
    x1, x2 = (
        normalize_points(torch.from_numpy(xy).double(), K.double().cpu()).numpy()
        for xy, K in ((xy1, pair.K1), (xy2, pair.K2))
    )
    E, inliers = cv2.findEssentialMat(x1, x2, np.eye(3), cv2.RANSAC, 0.999, threshold)
    if E is None or E.shape != (3, 3):
        return 180.0
    count, R, t, _ = cv2.recoverPose(E, x1, x2, np.eye(3), mask=inliers)
    if count == 0:
        return 180.0
    rotation, translation = relative_pose_error(
        torch.from_numpy(R),
        torch.from_numpy(t[:, 0]),
        pair.R.double().cpu(),
        pair.t.double().cpu(),
        fold_translation=True,
    )
    return float(torch.maximum(rotation, translation).rad2deg())


def timed(step: Callable[[], list[float]], network: TimedNetwork) -> tuple[float, float, list[float]]:
    """(seconds beside the network, seconds of the network's forward pass, errors)."""
    network.seconds = 0.0
    device = next(network.network.parameters()).device
    synchronize(device)
    started = time.perf_counter()
    errors = step()
    synchronize(device)
    return time.perf_counter() - started - network.seconds, network.seconds, errors


def main(options: Options) -> None:
    """Run both ways on the same pairs, alternating, and print the ratio and the accuracy."""
    root = data_root()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    device = torch.device(options.device)
    network = TimedNetwork(rfp.load_pretrained("aliked-t16").to(device))
    generator = torch.Generator(device=device).manual_seed(0)
    random = np.random.default_rng(0)
    cv2.setRNGSeed(0)
    pairs = []
    for name in SETS:
        folder = rfp.data.PosedPairs(root / name, image_size=320)
        step = max(1, len(folder) // (2 if options.quick else 15))
        pairs += [folder[k].to(device) for k in range(0, len(folder), step)][: 2 if options.quick else 15]

    steps: dict[str, Callable[[PosedPair], list[float]]] = {
        name: lambda pair, ransac=ransac: our_step(network, pair, options, ransac, generator)
        for name, ransac in OURS.items()
    }
    steps["each key point"] = lambda pair: each_key_point_step(network, pair, generator)
    steps["original"] = lambda pair: original_step(network, pair, options, random)
    rows: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name in steps}
    for step in steps.values():
        step(pairs[0])
    for pair in pairs:
        for name, step in steps.items():
            rows[name].append(timed(lambda step=step, pair=pair: step(pair), network))

    result = summary(rows, options)
    for name, entry in result["ways"].items():
        low, high = entry["quartiles_ms"]
        poses = ""
        if "auc" in entry:
            auc = "/".join(f"{value:.1f}" for value in entry["auc"].values())
            poses = f", sampled poses AUC@5/10/20 {auc}, failed {entry['failed']:.1%}"
        print(
            f"{name:14s} beside the network {entry['median_ms']:6.1f} ms (quartiles {low:.1f} to {high:.1f}), network "
            f"forward {entry['network_ms']:.1f} ms{poses}"
        )
    for name, entry in result["times faster"].items():
        low, high = entry["quartiles"]
        print(
            f"{name:14s} times faster beside the network: {entry['in_total']:.2f} in total, {entry['median_pair']:.2f} "
            f"on the median pair (quartiles {low:.2f} to {high:.2f}); {len(pairs)} pairs"
        )
    if options.json is not None:
        write_json(options.json, result)


def summary(rows: dict[str, list[tuple[float, float, list[float]]]], options: Options) -> dict[str, Any]:
    """The figures of each way, and how many times faster ours are: in total, and pair by pair."""
    result: dict[str, Any] = {"times faster": {}, "ways": {}}
    original = [entry[0] for entry in rows["original"]]
    for name in (*OURS, "each key point"):
        ours = [entry[0] for entry in rows[name]]
        ratios = [theirs / mine for mine, theirs in zip(ours, original, strict=True)]
        result["times faster"][name] = {
            "in_total": sum(original) / sum(ours),
            "median_pair": statistics.median(ratios),
            "quartiles": quartiles(ratios),
        }
    for name, entries in rows.items():
        times = [1e3 * entry[0] for entry in entries]
        errors = [error for entry in entries for error in entry[2]]
        result["ways"][name] = {
            "median_ms": statistics.median(times),
            "quartiles_ms": quartiles(times),
            "total_s": sum(times) / 1e3,
            "network_ms": statistics.median(1e3 * entry[1] for entry in entries),
        }
        if errors:
            result["ways"][name]["auc"] = keyed_auc(errors)
            result["ways"][name]["failed"] = sum(error >= 180 for error in errors) / len(errors)
    result["settings"] = {
        "pairs": len(original),
        "hypotheses": {name: str(ransac) for name, ransac in OURS.items()},
        "max_error_px": options.max_error_px,
        "threads": options.threads,
        "device": options.device,
        "opencv": cv2.__version__,
        "seed": 0,
        **machine(),
    }
    return result


def quartiles(values: list[float]) -> list[float]:
    """The first and the third."""
    first, _, third = statistics.quantiles(values, n=4)
    return [first, third]


if __name__ == "__main__":
    main(tyro.cli(Options))
