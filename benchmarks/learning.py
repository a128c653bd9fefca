"""Does training on the pose improve the pose, on photographs that training did not see?

    RFP_DATA=... python benchmarks/learning.py --screen                 # one seed, two folds of the training places
    RFP_DATA=... python benchmarks/learning.py --source relief --photographs FOLDER   # of benchmarks/photographs.py
    RFP_DATA=... python benchmarks/learning.py --source own --json own_place.json

Every arm starts from the same weights, sees the same pairs in the same order with the same augmentation, and takes as
many steps: training on the pose, on right matches (an additive reward whose expectation over matches is exact), the
paper's own policy and objective, both rewards together, and as a control low-level training on true correspondences of
those pairs (exact ones where they are rendered). The last weights are judged, so that nothing is selected: as deployed
(NMS, top-k, mutual nearest neighbours), with PoseLib and OpenCV's USAC, neither of which is in the loop. With
``--screen`` an arm trains on one of the training places, on rendered scenes or on single photographs, and is judged on
places that it did not see, which is where options may be chosen; without it, on the sets that select nothing. With
``--source own`` the place is known and its images are not: an arm trains on the pairs among every other image of a
place and is judged on the pairs among the others, as somebody would who fine-tunes on a place of his own; the others
of the first place chose options, those of the second nothing. With ``--source others`` each place is left out in turn:
an arm trains on the pairs of all other places and is judged on those of that one. A run that was cut off goes on from
its folder, and the file gets each figure as it comes; both are of one start, by its weights, and one kind of pairs.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from learning_figures import beyond_control, changes, print_changes
from learning_identity import check_same, photographs_digest, short_digest, weights_digest
from machine import machine
from report_sets import REPORT, SETTINGS, data_root
from torch import nn

import rfp
from rfp.cli.training_sets import relief_pairs, rendered_pairs
from rfp.data import PosedPairs, ReliefOptions, ReliefPairs, RenderedPairs, SceneOptions
from rfp.data.pair_splitting import split_pairs
from rfp.models import load_weights
from rfp.policy import KeypointOptions, MatchOptions
from rfp.robust.options import RansacOptions
from rfp.rollout import ControlOptions, RolloutOptions
from rfp.training import Pretrainer, PretrainingOptions, TrainerOptions
from rfp.training.checkpoint import CHECKPOINT_NAME, LAST_WEIGHTS_FILE, write_json
from rfp.training.pretraining_pairs import PosedViews, RenderedViews, verified_matches
from rfp.training.schedules import ScheduleOptions
from rfp.training.trust_region import TrustRegionOptions

TRAIN = ("ngp_fox", "sceaux_castle")
SELECT = ("lund_door",)
FOLDS = {"ngp_fox": ("sceaux_castle", "lund_door"), "sceaux_castle": ("ngp_fox", "lund_door")}
"""Trained on: judged on, where options are chosen."""
OWN = ("ngp_fox", "strecha_castle_p30")
"""Places of which every other image trains."""
PLACES = {
    "the courtyard": ("strecha_castle_p30", "strecha_fountain_p11", "strecha_entry_p10"),
    "the door": ("lund_door",),
    "the castle": ("sceaux_castle",),
    "the basilica": ("sacre_coeur10",),
    "the fox": ("ngp_fox",),
}
"""All places, each of which is left out in turn; three sets are of the same one."""
RENDERED, RELIEF = "rendered scenes", "photographs in relief"
ESTIMATORS = ("poselib", "opencv")
EACH_KEY_POINT_RATE, CONTROL_RATE = 5e-4, 1e-3
"""Each the best of 2e-4, 5e-4 and 1e-3 after 500 steps on photographs in relief, on the pairs that choose options."""


@dataclass(frozen=True)
class Options:
    """Options of the benchmark."""

    arms: tuple[str, ...] = ("pose", "matches", "many matches", "both", "control", "paper")
    """What to train, by the names of ``ARMS``."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each arm for each."""
    mean_of_seeds: bool = False
    """Judge the mean of the weights of each arm's seeds, too: one network, which all of them taught."""
    screen: bool = False
    """Two folds of the training places and the first seed only; judged at the harder setting with PoseLib."""
    source: Literal["places", "rendered", "relief", "own", "others"] = "places"
    """What is trained on: the pairs of the training places, rendered scenes, photographs in relief, half of the
    images of the very place that is judged, or all places but the one that is judged."""
    difficulty: Literal["easy", "medium", "hard"] = "medium"
    """Range of the rendered viewpoints."""
    photographs: Path | None = None
    """Folder of photographs that rendered scenes wear beside textures made by code, or that stand out in relief."""
    relief: ReliefOptions = field(default_factory=ReliefOptions)
    """How they stand out."""
    network: str = "tiny"
    """The start: a name, run folder or weights file."""
    steps: int = 1000
    """Optimiser steps of each run."""
    learning_rate: float | None = None
    """Of the arms that run, in place of their own."""
    bfloat16: bool = True
    """Networks compute their maps in bfloat16 while they train, in all arms; they are judged in float32."""
    curve_every: int | None = None
    """Steps between looks at every other pair of the places where options may be chosen, at the harder setting with
    PoseLib: how fast an arm learns. Nothing is selected by them."""
    threads: int = 2
    """Of torch."""
    runs: Path = Path("runs/learning")
    """Folder of the run folders."""
    json: Path | None = None
    """Where to write the figures; those that are there are kept."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What all runs of a file share, but for the machine: digests of the start and of the photographs among it."""
        shared: dict[str, Any] = {
            "start": weights_digest(rfp.load_network(self.network)),
            "source": self.source,
            "bfloat16": self.bfloat16,
            "curve every": self.curve_every,
        }
        if self.photographs is not None:
            shared["photographs"] = photographs_digest(self.photographs)
        if self.source == "relief":
            shared["relief"] = asdict(self.relief)
        if self.source == "rendered":
            shared["difficulty"] = self.difficulty
        return shared

    @property
    def seeds_to_run(self) -> tuple[int, ...]:
        """The first one alone for a screen."""
        return self.seeds[:1] if self.screen else self.seeds

    @property
    def has_depth(self) -> bool:
        """Whether the pairs that train come with it."""
        return self.source in ("rendered", "relief")

    def searched_rate(self, in_relief: float) -> float:
        """The rate that an arm's search chose on photographs in relief, or 1e-4 for other pairs."""
        if self.learning_rate is not None:
            return self.learning_rate
        return in_relief if self.has_depth else 1e-4


def trainer_options(seed: int, options: Options, **arm: Any) -> TrainerOptions:
    """What the arms trained by reinforcement share, and what this one changes."""
    rate = arm.pop("learning_rate")
    return TrainerOptions(
        steps=options.steps,
        seed=seed,
        learning_rate=rate if options.learning_rate is None else options.learning_rate,
        averaging=0.99,
        augment=True,
        schedule=ScheduleOptions(rate="cosine"),
        checkpoint_every=25,
        **arm,
    )


def on_the_pose(seed: int, options: Options) -> TrainerOptions:
    """The pose error, with what takes noise out of its gradient."""
    rollout = RolloutOptions(
        common_random_numbers=True, subpixel=True, control=ControlOptions(values="epipolar"), max_error_px=1.0
    )
    return trainer_options(seed, options, learning_rate=1e-5, keypoint_weight=0.1, rollout=rollout)


def on_the_pose_often(seed: int, options: Options) -> TrainerOptions:
    """The same with eight times as many draws of matches, and cheaper estimates: the network runs once for all."""
    plain = on_the_pose(seed, options)
    rollout = replace(
        plain.rollout, num_match_draws=24, ransac=RansacOptions(num_hypotheses=48, resample_rounds=1, num_refined=4)
    )
    return replace(plain, rollout=rollout)


def expected_exactly(candidates: Literal["dual_softmax", "reciprocal"], *, num_draws: int) -> RolloutOptions:
    """For a reward that adds over matches: none of its expectation over them is left to draws."""
    return RolloutOptions(
        keypoints=KeypointOptions(num_keypoints=384),
        matches=MatchOptions(candidates=candidates, temperature=0.06),
        num_keypoint_draws=num_draws,
        num_match_draws=num_draws,
        control=ControlOptions(values="reward"),
        ransac=RansacOptions(num_hypotheses=16, resample_rounds=0),  # nothing depends on the estimate
    )


def on_right_matches(seed: int, options: Options) -> TrainerOptions:
    """Each match by the true epipolar line, over all pairs of key points: its expectation is exact."""
    rollout = expected_exactly("dual_softmax", num_draws=2)
    arm = {"learning_rate": 1e-4, "reward": "disk", "control_coefficient": 1.0, "keypoint_weight": 0.1}
    return trainer_options(seed, options, rollout=rollout, **arm)


def on_many_right_matches(seed: int, options: Options) -> TrainerOptions:
    """DISK's policy, key points that choose each other, and the number of right matches; the descriptors alone."""
    rollout = expected_exactly("reciprocal", num_draws=1)
    arm = {"reward": "disk_count", "control_coefficient": 1.0, "keypoint_weight": 0.0, "baseline": "none"}
    return trainer_options(seed, options, learning_rate=4e-4, rollout=rollout, **arm)


def on_many_right_matches_of_each(seed: int, options: Options) -> TrainerOptions:
    """The same for the detector, too: each key point by what its own matches are worth.

    At the spread of the heat map itself the distribution falls from 500 effective key points to 7 in 150 steps.
    """
    plain = on_many_right_matches(seed, options)
    rollout = replace(plain.rollout, keypoints=replace(plain.rollout.keypoints, spread=1.5))
    return replace(plain, rollout=rollout, keypoint_weight=1.0, keypoint_credit="own_matches_biased")


def on_each_key_point(seed: int, options: Options) -> TrainerOptions:
    """The logarithm of what each key point's matches are worth under the true pose, by its depth where it is known."""
    recipe = TrainerOptions.each_key_point("reprojection_count" if options.has_depth else "sampson_count")
    return replace(
        recipe,
        steps=options.steps,
        seed=seed,
        learning_rate=options.searched_rate(EACH_KEY_POINT_RATE),
        checkpoint_every=25,
    )


def without_the_logarithm(seed: int, options: Options) -> TrainerOptions:
    """The number of right matches itself."""
    return replace(on_each_key_point(seed, options), match_utility="reward")


def without_a_trust_region(seed: int, options: Options) -> TrainerOptions:
    """Nothing keeps the heat map near the start's."""
    return replace(on_each_key_point(seed, options), trust=TrustRegionOptions())


def with_a_trust_region(seed: int, options: Options) -> TrainerOptions:
    """The heat map is kept near the start's, as by depth, where only the pose is known."""
    return replace(on_each_key_point(seed, options), trust=TrustRegionOptions(keypoints=1.0))


def without_depth(seed: int, options: Options) -> TrainerOptions:
    """Matches are right along the whole epipolar line, at the floor that this asks for."""
    by_lines = TrainerOptions.each_key_point("sampson_count")
    plain = on_each_key_point(seed, options)
    rollout = replace(plain.rollout, control=by_lines.rollout.control)
    return replace(plain, reward=by_lines.reward, utility_floor=by_lines.utility_floor, rollout=rollout)


def with_positions(seed: int, options: Options) -> TrainerOptions:
    """Positions learn, or do not where the recipe has it."""
    plain = on_each_key_point(seed, options)
    return replace(plain, rollout=replace(plain.rollout, position_gradient=not plain.rollout.position_gradient))


def with_credit_of_its_own(seed: int, options: Options) -> TrainerOptions:
    """The detector, too, follows what each key point's matches are worth, at a fixed spread of its heat."""
    plain = on_each_key_point(seed, options)
    keypoints = replace(plain.rollout.keypoints, spread=1.5)
    rollout = replace(plain.rollout, keypoints=keypoints)
    return replace(plain, keypoint_weight=1.0, keypoint_credit="own_matches_biased", rollout=rollout)


def on_both(seed: int, options: Options) -> TrainerOptions:
    """The pose error beside right matches, both with the policy of the latter."""
    right = on_right_matches(seed, options)
    rollout = replace(
        right.rollout, ransac=RolloutOptions().ransac, common_random_numbers=True, control=ControlOptions(values="disk")
    )
    return replace(right, reward_terms=("pose_error=1", "disk=1"), control_coefficient="estimated", rollout=rollout)


def as_in_the_paper(seed: int, options: Options) -> TrainerOptions:
    """The paper's policy, baseline and reward; its rate of 1e-7 would not leave the start in so few steps."""
    return trainer_options(seed, options, learning_rate=1e-5, baseline="mean", rollout=RolloutOptions.paper())


REINFORCED: dict[str, Callable[[int, Options], TrainerOptions]] = {
    "pose": on_the_pose,
    "pose, many draws": on_the_pose_often,
    "matches": on_right_matches,
    "many matches": on_many_right_matches,
    "many matches, key points too": on_many_right_matches_of_each,
    "each key point": on_each_key_point,
    "each key point, no logarithm": without_the_logarithm,
    "each key point, no trust region": without_a_trust_region,
    "each key point, trust region": with_a_trust_region,
    "each key point, no depth": without_depth,
    "each key point, positions the other way": with_positions,
    "each key point, its own credit": with_credit_of_its_own,
    "both": on_both,
    "paper": as_in_the_paper,
}
ARMS = (*REINFORCED, "control")
MEAN = ", mean of the seeds' weights"


def source_of(trained_on: str, options: Options) -> PosedPairs | RenderedPairs | ReliefPairs:
    """The pairs that an arm learns from."""
    if trained_on == RELIEF:
        if options.photographs is None:
            raise SystemExit("--source relief: expected --photographs FOLDER, got none")
        return relief_pairs(options.photographs, options.relief)
    if trained_on == RENDERED:
        return rendered_pairs(getattr(SceneOptions, options.difficulty)(), options.photographs)
    if options.source == "own":
        return PosedPairs(half_of(trained_on, 0, options), image_size=320)
    if options.source == "others":
        names = [name for place, sets in PLACES.items() if all_but(place) != trained_on for name in sets]
        return PosedPairs([data_root() / name for name in names], image_size=320)
    return PosedPairs([data_root() / name for name in trained_on.split("+")], image_size=320)


def all_but(place: str) -> str:
    """What an arm trains on for which this place is left out."""
    return f"all but {place}"


def half_of(place: str, which: Literal[0, 1], options: Options) -> Path:
    """A folder of the pairs among every other image of a place: the first, third, … by name (0), or the others (1)."""
    halves = [options.runs / f"{place}-half_{number}" for number in (0, 1)]
    if not halves[which].exists():
        split_pairs(data_root() / place, *halves)
    return halves[which]


def train(arm: str, seed: int, trained_on: str, options: Options) -> tuple[nn.Module, dict[str, Any]]:
    """The network after an arm's last step, and how it went; a run that is there goes on."""
    network = rfp.load_network(options.network)
    rate = "" if options.learning_rate is None else f"-rate_{options.learning_rate:g}"
    place = trained_on.replace("+", "_").replace(" ", "_")
    words = arm.replace(", ", "_").replace(" ", "_")
    of_settings = short_digest(options.settings)
    output = options.runs / f"{place}-{words}-{options.steps}{rate}-seed_{seed}-{of_settings}"
    pairs = source_of(trained_on, options)
    curve = None if options.curve_every is None else PairsThatChoose()
    looks: dict[str, Any] = {} if options.curve_every is None else {"validate_every": options.curve_every}
    resume = (output / CHECKPOINT_NAME).is_file()
    started = time.perf_counter()

    def show(row: dict[str, Any]) -> None:
        figure = row.get("reward", row.get("loss"))
        if row["step"] % 100 == 0:
            print(f"{output.name} step {row['step']} {figure:.3f} {time.perf_counter() - started:.0f} s", flush=True)

    if arm == "control":
        like = on_the_pose(seed, options)
        control = PretrainingOptions(
            steps=options.steps,
            seconds=float("inf"),
            pairs_per_step=like.pairs_per_step * like.accumulate,
            learning_rate=options.searched_rate(CONTROL_RATE),
            averaging=like.averaging,
            augmentation=like.photometric,
            bfloat16=options.bfloat16,
            checkpoint_every=25,
            seed=seed,
            **looks,
        )
        start = rfp.load_network(options.network).eval()
        if isinstance(pairs, PosedPairs):
            views = PosedViews(pairs, verified_matches(start, pairs), seed=seed)
        else:
            views = RenderedViews(pairs, start, seed=seed)
        summary = Pretrainer(network, control).fit(views, validation=curve, output=output, resume=resume, on_step=show)
        chosen: Any = control
    else:
        chosen = REINFORCED[arm](seed, options)
        chosen = replace(chosen, rollout=replace(chosen.rollout, bfloat16=options.bfloat16), **looks)
        summary = rfp.Trainer(network, chosen).fit(pairs, validation=curve, output=output, resume=resume, on_step=show)
    kept = {name: value for name, value in asdict(chosen).items() if value != float("inf")}  # JSON has no infinity
    how: dict[str, Any] = {"options": kept}
    if curve is None:
        how["seconds a step"] = summary.seconds / summary.steps
    else:
        load_weights(network, output / LAST_WEIGHTS_FILE)  # not those that the curve likes best
        how["curve"] = [{"step": each["step"], "auc": each["auc"]} for each in summary.validations]
    return network.eval(), how


def mean_of_weights(networks: Sequence[nn.Module]) -> nn.Module:
    """The first network with the mean of all their weights."""
    states = [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    networks[0].load_state_dict(mean)
    return networks[0]


class PairsThatChoose(Sequence[rfp.PosedPair]):
    """Every other pair of the places where options may be chosen, at the harder setting's size."""

    def __init__(self):
        self.pairs = PosedPairs([data_root() / name for name in (*TRAIN, *SELECT)], image_size=320)

    def __len__(self) -> int:
        return (len(self.pairs) + 1) // 2

    def __getitem__(self, index):
        return self.pairs[2 * index]


def judge(network: nn.Module, folders: Sequence[str], options: Options) -> dict[str, Any]:
    """Errors by setting and estimator, and what an interval needs to know of the pairs: their scenes and images."""
    figures, known = {}, {}
    sets = [half_of(folder, 1, options) if options.source == "own" else data_root() / folder for folder in folders]
    settings = dict(list(SETTINGS.items())[:1]) if options.screen else SETTINGS
    for name, setting in settings.items():
        pairs = PosedPairs(sets, image_size=setting["image_size"])
        budget = {key: setting[key] for key in ("num_keypoints", "max_error_px")}
        for estimator in ESTIMATORS[:1] if options.screen else ESTIMATORS:
            report = rfp.evaluate(network, pairs, estimator=estimator, **budget)
            figures[f"{name}, {estimator}"] = {
                "auc": report.auc,
                "errors_deg": [round(error, 3) for error in report.errors_deg],
            }
            known = {"scenes": report.pair_scenes, "images": report.pair_images}
    return {"figures": figures, "pairs": known}


def main(options: Options) -> None:
    """Judge the start and every arm, writing the figures as they come, and print what changed."""
    unknown = [arm for arm in options.arms if arm not in ARMS]
    if unknown:
        raise SystemExit(f"--arms: expected some of {', '.join(ARMS)}, got {unknown[0]!r}")
    variants = [arm for arm in options.arms if arm.startswith("each key point, ")]
    same = [arm for arm in variants if REINFORCED[arm](0, options) == on_each_key_point(0, options)]
    if same:
        pairs = "pairs have depth" if options.has_depth else "pairs lack depth"
        raise SystemExit(f"--arms: {same[0]!r} changes nothing with --source {options.source}, whose {pairs}")
    torch.set_num_threads(options.threads)
    result = _read(options, options.settings)
    if options.source == "own":
        folds = {place: (place,) for place in OWN}
    elif options.source == "others":
        folds = {all_but(place): sets for place, sets in PLACES.items()}
    elif options.source != "places":
        name = RENDERED if options.source == "rendered" else RELIEF
        folds = {name: (*TRAIN, *SELECT) if options.screen else REPORT}
    else:
        folds = FOLDS if options.screen else {"+".join(TRAIN): REPORT}
    for trained_on, judged_on in folds.items():
        _measure(result, "start", 0, trained_on, judged_on, options)
        for seed in options.seeds_to_run:
            for arm in options.arms:
                _measure(result, arm, seed, trained_on, judged_on, options)
        for arm in options.arms if options.mean_of_seeds else ():
            _measure(result, arm + MEAN, 0, trained_on, judged_on, options)
    print_changes(result["changes"])


def _read(options: Options, settings: dict[str, Any]) -> dict[str, Any]:
    """The file's figures so far, which must be of the same start, pairs and judges."""
    settings = {**settings, "judged": "screen" if options.screen else "report"}
    if options.json is not None and options.json.is_file():
        found = json.loads(options.json.read_text())
        check_same(found, settings, options.json)
        return found
    head = {"machine": machine(), "settings": settings, "network": options.network, "steps": options.steps}
    return {**head, "runs": [], "changes": []}


def _is_there(key: dict[str, Any], result: dict[str, Any], options: Options) -> bool:
    """Whether the file has this run, after taking up what it has."""
    if options.json is not None and options.json.is_file():
        result.update(json.loads(options.json.read_text()))
    key = {"learning rate": None, **key}
    return any(all(run.get(name) == value for name, value in key.items()) for run in result["runs"])


def _measure(
    result: dict[str, Any], arm: str, seed: int, trained_on: str, judged_on: Sequence[str], options: Options
) -> None:
    """Train and judge one arm, unless the file has it, which another process may be writing to as well."""
    key = {"arm": arm, "seed": seed, "trained on": trained_on, "steps": 0 if arm == "start" else options.steps}
    if options.learning_rate is not None and arm != "start":
        key["learning rate"] = options.learning_rate
    if _is_there(key, result, options):
        return
    if arm == "start":
        network, how = rfp.load_network(options.network).eval(), {}
    elif arm.endswith(MEAN):
        networks = [train(arm.removesuffix(MEAN), each, trained_on, options)[0] for each in options.seeds_to_run]
        network, how = mean_of_weights(networks), {}
    else:
        network, how = train(arm, seed, trained_on, options)
    judged = judge(network, judged_on, options)
    if arm != "start":
        del judged["pairs"]
    if _is_there(key, result, options):
        return
    result["runs"].append({**key, "judged on": list(judged_on), **how, **judged})
    result["changes"] = changes(result["runs"])
    result["beyond control"] = beyond_control(result["runs"])
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, result)
    print_changes(result["changes"][-2:])


if __name__ == "__main__":
    main(tyro.cli(Options))
