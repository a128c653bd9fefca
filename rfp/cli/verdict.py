"""What a diagnosis means, in words: how many steps have to be averaged, and what speaks against training at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rfp.reinforce.gradient_noise import NoiseToSignal
from rfp.training.diagnosis import Diagnosis


@dataclass(frozen=True)
class Sign:
    """A figure beyond a limit, and what to make of it."""

    name: str
    above: bool
    limit: float
    meaning: str
    of_draws: bool = False
    """Whether it speaks of what whole draws earn, and says nothing where nothing is reinforced by that."""

    def shows(self, figures: Mapping[str, float]) -> bool:
        """Whether the figure lies beyond the limit."""
        value = figures[self.name]
        return value > self.limit if self.above else value < self.limit


SIGNS = (
    Sign("failed", True, 0.5, "most draws fail: take easier pairs, larger images or more key points", True),
    Sign(
        "agreeing", True, 0.5, "most pairs earn the same whatever is drawn, and teach nothing: take other pairs", True
    ),
    Sign("overlap", False, 0.3, "few of the drawn key points are ever deployed: train what you deploy (nms_radius 2)"),
    Sign("entropy_share_keypoints", True, 0.99, "the detector prefers nothing: it has to be pretrained"),
    Sign("entropy_share_keypoints", False, 0.2, "the detector is nearly certain, its draws are all alike"),
    Sign("effective_matches", False, 8.0, "few matches have a chance of being drawn: raise the temperature"),
    Sign("candidates", False, 16.0, "few matches to draw from: take more key points, or easier pairs"),
)


def steps_in_words(noise: NoiseToSignal, pairs_per_step: int) -> str:
    """How many steps on that many new pairs have to be averaged, or how many are too few."""
    pairs = f"{pairs_per_step} pair" + ("s" if pairs_per_step != 1 else "")
    if noise.resolved:
        steps = max(1, round(float(noise.ratio) / pairs_per_step))
        found = f"at this signal about {steps} step{'s' if steps != 1 else ''} of {pairs} must be averaged before the"
        return f"{found} mean points more along the gradient than beside it"
    if float(noise.at_least) <= 0.0:
        return "the gradient of every draw is zero: there is nothing to learn from these pairs"
    steps = max(1, math.floor(float(noise.at_least) / pairs_per_step))
    return (
        "the signal cannot be told from zero: more than about "
        f"{steps} step{'s' if steps != 1 else ''} of {pairs} must be averaged; more pairs or draws would say how many"
    )


def verdict(diagnosis: Diagnosis, pairs_per_step: int, *, by_draws: bool = True) -> list[str]:
    """Sentences: the signal of what is trained, the noisier of its terms, and every sign that something is wrong.

    Args:
        by_draws: Whether anything is reinforced by what whole draws earn.
    """
    sentences = [steps_in_words(diagnosis.of("both").new_pairs, pairs_per_step)]
    keypoints, matches = (diagnosis.of(term).fixed_pairs for term in ("key points", "matches"))
    if keypoints.resolved and matches.resolved:
        ratio = float(keypoints.ratio) / float(matches.ratio)
        noisier, other = ("key points", "matches") if ratio > 1 else ("matches", "key points")
        sentences.append(
            f"the term of the {noisier} is {max(ratio, 1 / ratio):.1f} times as noisy as that of the {other}"
        )
    figures = diagnosis.mean()
    signs = [sign for sign in SIGNS if (by_draws or not sign.of_draws) and sign.shows(figures)]
    return sentences + [f"{sign.name} {figures[sign.name]:.3g}: {sign.meaning}" for sign in signs]
