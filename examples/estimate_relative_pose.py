"""Estimate the relative poses of a batch of synthetic problems, and print AUC and milliseconds a problem.

python examples/estimate_relative_pose.py --inlier-ratio 0.4 --num-hypotheses 1024
"""

import time
from dataclasses import dataclass

import torch
import tyro

import rfp


@dataclass(frozen=True)
class Options:
    """A batch of two-view problems: 640 × 480 images, f = 500, points 2 to 8 units away."""

    num_problems: int = 64
    num_matches: int = 300
    inlier_ratio: float = 0.7
    noise_px: float = 1.0
    max_error_px: float = 2.0
    num_hypotheses: int = 128
    device: str = "cpu"
    seed: int = 0


FOCAL_PX = 500.0
IMAGE_PX = (640.0, 480.0)


def make_problems(options: Options, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Normalised matches x1, x2 and the true R, t."""
    n, count = options.num_problems, options.num_matches
    axis_angle = 0.3 * torch.randn(n, 3, generator=generator)
    zero = torch.zeros(n)
    x, y, z = axis_angle.unbind(-1)
    R = torch.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3)))
    t = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)

    extent = torch.tensor(IMAGE_PX) / FOCAL_PX
    x1 = (torch.rand(n, count, 2, generator=generator) - 0.5) * extent
    depth = 2 + 6 * torch.rand(n, count, 1, generator=generator)
    X1 = torch.cat((x1, torch.ones(n, count, 1)), dim=-1) * depth
    X2 = X1 @ R.mT + t[:, None]
    noise = torch.randn(2, n, count, 2, generator=generator) * options.noise_px / FOCAL_PX
    x2 = X2[..., :2] / X2[..., 2:] + noise[0]
    seen = X2[..., 2] > 0.2
    outlier = (torch.rand(n, count, generator=generator) > options.inlier_ratio) | ~seen
    wild = (torch.rand(n, count, 2, generator=generator) - 0.5) * extent
    return x1 + noise[1], torch.where(outlier[..., None], wild, x2), R, t


def main(options: Options) -> None:
    generator = torch.Generator().manual_seed(options.seed)
    x1, x2, R, t = (tensor.to(options.device) for tensor in make_problems(options, generator))
    device_generator = torch.Generator(options.device).manual_seed(options.seed)

    start = time.perf_counter()
    pose = rfp.estimate_relative_pose(
        x1,
        x2,
        max_error=options.max_error_px / FOCAL_PX,
        options=rfp.RansacOptions(num_hypotheses=options.num_hypotheses),
        generator=device_generator,
    )
    found = int(pose.valid.sum())  # waits for the device, so that the time is that of the work
    time_ms = 1000 * (time.perf_counter() - start) / options.num_problems

    rotation, translation = rfp.relative_pose_error(pose.R, pose.t, R, t, fold_translation=True)
    error_deg = torch.rad2deg(torch.maximum(rotation, translation)).where(pose.valid, 180.0)
    auc = rfp.pose_auc(error_deg.tolist(), (5, 10, 20))
    print(f"{found} of {options.num_problems} poses found, {time_ms:.1f} ms a problem")
    print("AUC@5/10/20:", " / ".join(f"{value:.1f}" for value in auc.values()))


if __name__ == "__main__":
    main(tyro.cli(Options))
