"""Whether whole-pixel positions spoil accuracy: at deployment, and in the rewards of training.

    RFP_DATA=... python benchmarks/subpixel.py --json docs/results/subpixel.json
    RFP_DATA=... python benchmarks/subpixel.py --trained start=runs/start paper=runs/paper    # after training

The pairs that train and select (nothing reported is looked at), at 320 px, 512 key points, PoseLib at 1 px: each
network as it is, and with its sub-pixel step taken away. Then the same draws of training with and without it: the mean
reward, its spread between draws, and the share of poses below 5°. About four minutes on one core. With ``--trained``
networks that were trained are deployed both ways: what training on whole pixels did to the step would show there.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from machine import machine
from report_sets import data_root, with_interval
from torch import nn

import rfp
from rfp.data import PosedPairs
from rfp.evaluation import compare, pair_errors
from rfp.reinforce import draw_statistics
from rfp.training.checkpoint import write_json

SETS = ("lund_door", "ngp_fox", "sceaux_castle")
NETWORKS = ("tiny", "aliked-t16")


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    trained: tuple[str, ...] = ()
    """NAME=NETWORK, run folders or weights files in place of the networks that ship; nothing is drawn from them."""
    rewarded: int = 40
    """Pairs whose draws are rewarded, evenly spaced over all."""
    seed: int = 0
    """Of the draws, the same with and without the sub-pixel step."""
    threads: int = 1
    """Of torch."""
    json: Path | None = None
    """Where to write the figures."""


class WholePixels(nn.Module):
    """A network without its sub-pixel step: positions and descriptors are those of the pixels."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.extract, self.describe = network.extract, network.describe


def main(options: Options) -> None:
    """Measure, print, write."""
    torch.set_num_threads(options.threads)
    pairs = PosedPairs([data_root() / name for name in SETS], image_size=320)
    deployed, rewarded = [], []
    for name, _, path in (text.partition("=") for text in options.trained):
        deployed.append({"network": name, **deployment(rfp.load_network(path).eval(), pairs)})
        print(deployed[-1], flush=True)
    for name in () if options.trained else NETWORKS:
        network = rfp.load_pretrained(name)
        deployed.append({"network": name, **deployment(network, pairs)})
        print(deployed[-1], flush=True)
        chosen = [pairs[k * len(pairs) // options.rewarded] for k in range(options.rewarded)]
        rewarded += [{"network": name, **row} for row in rewards(network, chosen, options.seed)]
        print(*rewarded[-2:], sep="\n", flush=True)
    if options.json is not None:
        settings: dict[str, Any] = {"sets": SETS, "pairs": len(pairs)}
        drawn = {"draws of training": rewarded} if rewarded else {}
        settings |= {"rewarded": options.rewarded, "seed": options.seed} if rewarded else {}
        content = {"deployed": deployed, **drawn, "measured with": {**machine(), **settings}}
        write_json(options.json, content)


def deployment(network: nn.Module, pairs: PosedPairs) -> dict[str, Any]:
    """AUC with refined and with whole-pixel positions, and what the refined ones gain on the same pairs."""
    setting = {"estimator": "poselib", "num_keypoints": 512, "max_error_px": 1.0}
    whole = rfp.evaluate(WholePixels(network), pairs, **setting)
    refined = rfp.evaluate(network, pairs, **setting)
    change = compare(pair_errors(whole, "whole pixels"), pair_errors(refined, "sub-pixel"))
    gains = {
        f"gain at {at}°": with_interval(value, change.difference_interval[at])
        for at, value in change.difference.items()
    }
    return {"AUC@5/10/20, whole pixels": whole.auc, "sub-pixel": refined.auc, **gains}


@torch.no_grad()
def rewards(network, pairs: list[rfp.PosedPair], seed: int) -> list[dict[str, Any]]:
    """The statistics of the same draws of each pair, without and with the sub-pixel step in training."""
    rows, drawn = [], []
    for subpixel in (False, True):
        options = replace(rfp.RolloutOptions(), subpixel=subpixel)
        generator = torch.Generator().manual_seed(seed)
        rolled = [rfp.rollout(network, [pair], options=options, generator=generator) for pair in pairs]
        reward, failed, valid = (
            torch.cat([getattr(each, name) for each in rolled]) for name in ("reward", "failed", "valid")
        )
        figures = {key: value.item() for key, value in draw_statistics(reward, failed, valid).items()}
        below = (reward > -5 / 25).double().mean().item()
        names = {"reward": "mean reward", "spread_keypoints": "spread, key points", "spread_matches": "spread, matches"}
        named = {text: figures[key] for key, text in names.items()}
        drawn.append(reward.flatten())
        rows.append(
            {"positions": "sub-pixel" if subpixel else "whole pixels", **named, "share of draws below 5°": below}
        )
    rows[1]["correlation with whole pixels"] = torch.corrcoef(torch.stack(drawn))[0, 1].item()
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options))
