"""Why DISK's logits are divided by 32: how many pixels its policy chooses from, by temperature, beside ALIKED's.

    python benchmarks/disk_temperature.py FOLDER [FOLDER ...]

prints, over the first images of folders of posed pairs at 320 px, the largest logit, the 1024th largest, and the
effective size exp(entropy) of the distribution over local maxima.
"""

import argparse
import statistics

import torch
from torch import Tensor

import rfp
from rfp.models import Aliked, Disk

TEMPERATURES = (1, 8, 16, 32, 64)


def effective_size(log_heat: Tensor) -> float:
    """exp(entropy) of the softmax over the local maxima of a heat map (1, h, w)."""
    is_maximum = torch.nn.functional.max_pool2d(log_heat, 5, 1, 2) == log_heat
    log_p = log_heat[is_maximum].log_softmax(dim=0)
    return (-(log_p.exp() * log_p).sum()).exp().item()


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--images", type=int, default=5, help="images of each folder")
    arguments = parser.parse_args()

    aliked, disk = rfp.load_pretrained("aliked-t16"), rfp.load_pretrained("disk")
    assert isinstance(aliked, Aliked)
    assert isinstance(disk, Disk)
    rows: dict[str, list[float]] = {}
    for folder in arguments.folders:
        pairs = rfp.data.PosedPairs(folder, image_size=320)
        for index in range(0, len(pairs), max(1, len(pairs) // arguments.images)):
            image = pairs[index].image1[None]
            logit = disk.extract(image).log_heat * disk.temperature
            best = logit.flatten().topk(1024).values
            row = {"largest logit": best[0].item(), "1024th largest logit": best[-1].item()}
            row["ALIKED-T16, log-sigmoid"] = effective_size(aliked.extract(image).log_heat)
            row["DISK, log-sigmoid"] = effective_size(torch.nn.functional.logsigmoid(logit))
            for temperature in TEMPERATURES:
                row[f"DISK, logit / {temperature}"] = effective_size(logit / temperature)
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
    count = len(next(iter(rows.values())))
    print(f"median over {count} images of {', '.join(arguments.folders)} at 320 px; torch {torch.__version__}")
    for name, values in rows.items():
        print(f"{name:28s} {statistics.median(values):8.1f}")


if __name__ == "__main__":
    main()
