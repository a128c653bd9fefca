"""The training loop: roll out, reinforce, step; validate under deployment and keep the best weights."""

import dataclasses
import fnmatch
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rfp.data.augmentation import photometric_augmentation
from rfp.data.loading import PairLoader
from rfp.data.pairs import PairSequence, PairStream
from rfp.evaluation.evaluate import EvaluationReport, evaluate
from rfp.models.pretrained import WEIGHTS_FILE, network_name, save_weights
from rfp.models.state import device_of, in_eval_mode
from rfp.records import InputError, PosedPair
from rfp.reinforce import RewardMemory, coefficient_of_others, draw_statistics, surrogate_loss
from rfp.rewards import REWARDS, reward_of_terms
from rfp.rollout import FeatureNetwork, Reward, Rollout, TaskEstimator, default_estimator, rollout
from rfp.stages import stage
from rfp.training.checkpoint import TrainingState, load_checkpoint, prepare_run_folder, save_checkpoint, write_json
from rfp.training.interruption import Interruption, deferred_interruption
from rfp.training.metrics_log import MetricsLog
from rfp.training.options import JudgeOptions, TrainerOptions

FREE_TO_CHANGE = ("steps", "workers", "strict")
"""Options that a resumed run need not share with its beginning."""


@dataclass(frozen=True)
class TrainingSummary:
    """How a run went. The network holds the weights of ``best_step``."""

    steps: int
    best_step: int
    """0 where no validation was better than the start; without any validation the last step."""
    validations: list[dict[str, Any]]
    """{"step", "auc"} of each validation, the start first."""
    metrics: list[dict[str, Any]]
    skipped_steps: int
    """Steps left out because the gradient was zero or not finite."""
    skipped_pairs: int
    """Times that a pair could not be read and another stood in its place."""
    seconds: float


class Trainer:
    """Fine-tunes a network by REINFORCE on a task's reward.

    >>> trainer = Trainer(network, TrainerOptions(steps=400))  # doctest: +SKIP
    >>> summary = trainer.fit(rfp.data.PosedPairs("scene"))  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        options: TrainerOptions | None = None,
        *,
        estimator: TaskEstimator | None = None,
        reward: Reward | None = None,
    ):
        """Prepare to train ``network``, which lies on the device to train on; it is changed in place.

        Raises:
            InputError: the network lacks ``extract`` or ``describe``, or has nothing to train.
        """
        if not isinstance(network, FeatureNetwork):
            raise InputError(
                f"expected a network with the methods extract and describe, got {type(network).__name__}; "
                "see the documentation's page on your own network"
            )
        self.network = network
        self.options = TrainerOptions() if options is None else options
        self.estimator = default_estimator(self.options.rollout) if estimator is None else estimator
        self.reward = reward_by_options(self.options) if reward is None else reward
        self.device = device_of(network)
        self.parameters = trainable_parameters(network, self.options.frozen)

    def fit(
        self,
        pairs: PairSequence | PairStream,
        *,
        validation: Sequence[PosedPair] | None = None,
        output: Path | str | None = None,
        resume: bool = False,
        record: Mapping[str, Any] | None = None,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        on_validation: Callable[[int, EvaluationReport], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> TrainingSummary:
        """Train, and leave the network with the best weights on ``validation`` (the last ones without it).

        With ``averaging`` it is the average of the weights that is validated, kept and left.

        Args:
            pairs: Posed pairs, each seen once in every epoch, or a stream that makes new ones for every step
                (``rfp.data.RenderedPairs``).
            output: Run folder, which gets options, metrics, weights and checkpoints; None writes nothing.
            resume: Go on from the checkpoint in ``output``.
            record: Entries added to the run's ``options.json`` (where its data came from, say).
            on_step: Called with each row of metrics, every ``log_every`` steps.
            on_validation: Called with the step and the report of each validation.
            on_warning: Called with a line about each image that cannot be read; by default a Python warning.

        Ctrl-C (or SIGTERM) ends the run after the step in progress, with a checkpoint in ``output``.

        Raises:
            InputError: no pairs, or none that can be read; a run in ``output`` already; nothing to resume from, or
                another network, options or data. With ``options.strict``, a pair that cannot be read.
            KeyboardInterrupt: the run was interrupted.
        """
        if not isinstance(pairs, PairStream) and len(pairs) == 0:
            raise InputError("expected at least one pair to train on, got none; check the data folders")
        folder = None if output is None else prepare_run_folder(output, resume=resume)
        if folder is None and resume:
            raise InputError("expected a run folder to resume from, got none; give output=")
        run = _RunState(self, pairs, validation, folder, resume, on_step, on_validation, on_warning)
        if folder is not None:
            options = {"network": network_name(self.network), **(record or {}), "trainer": asdict(self.options)}
            write_json(folder / "options.json", options)
        # Evaluation mode throughout: batch-norm statistics are the pretrained network's and must not move, and a
        # policy that changes with what stands beside it in the batch has no log-probability of its own.
        with in_eval_mode(self.network):
            return run.to_the_end()

    def gradient_step(
        self,
        batches: Sequence[Sequence[PosedPair]],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        memory: RewardMemory | None = None,
        numbers: Sequence[Int[Tensor, "B"]] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """One optimiser step over batches of pairs; its metrics as tensors on the device, without waiting for it.

        ``memory`` and the ``numbers`` of the pairs in it are for options that remember rewards.
        """
        optimizer.zero_grad(set_to_none=True)
        rows = []
        for which, pairs in enumerate(batches):
            if self.options.augment:
                pairs = [photometric_augmentation(pair, generator=generator) for pair in pairs]
            rolled = rollout(
                self.network,
                pairs,
                options=self.options.rollout,
                generator=generator,
                estimator=self.estimator,
                reward=self.reward,
                deployed=self.options.baseline == "self_critical",
            )
            number = None if numbers is None else numbers[which]
            rows.append(reinforce(rolled, self.options, scale=1.0 / len(batches), memory=memory, number=number))
        with stage("optimiser"):
            norm, usable = clip_gradients(self.parameters, self.options.clip_norm)
            step_where(usable, optimizer)
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        return {**means, "gradient_norm": norm, "skipped": (~usable).to(norm.dtype)}


def judged(
    network: nn.Module, pairs: Sequence[PosedPair], judge: JudgeOptions, *, progress: bool = False
) -> EvaluationReport:
    """The report that ``judge`` asks for: of validations in a run, and of the table around it."""
    return evaluate(
        network,
        pairs,
        estimator=judge.estimator,
        num_keypoints=judge.num_keypoints,
        max_error_px=judge.max_error_px,
        progress=progress,
    )


def reward_by_options(options: TrainerOptions) -> Reward:
    """The reward by its name, or the weighted sum of several."""
    return reward_of_terms(options.reward_terms) if options.reward_terms else REWARDS[options.reward]


def reinforce(
    rolled: Rollout,
    options: TrainerOptions,
    *,
    scale: float = 1.0,
    memory: RewardMemory | None = None,
    number: Int[Tensor, "B"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Add the REINFORCE gradient of a rollout to the parameters' ``grad``, and return the draws' statistics.

    Args:
        memory: Of earlier rewards, where the options need it; read, and only then updated.
        number: Of each pair in it; None for pairs of a stream.
    """
    reference, weight = rolled.deployed_reward, None
    if options.remembers_rewards:
        if memory is None:
            raise InputError(f"baseline {options.baseline!r} or normalised rewards expected a memory, got none")
        number = rolled.valid.new_full(rolled.valid.shape, -1, dtype=torch.long) if number is None else number
        remembered, spread = memory.read(number)
        reference = remembered if options.baseline == "moving_average" else reference
        weight = 1.0 / spread if options.normalize_rewards else None
        memory.update(number, rolled.reward, rolled.valid)
    coefficient = options.control_coefficient
    if rolled.control is not None and coefficient == "estimated":
        coefficient = coefficient_of_others(rolled.reward, rolled.control, valid=rolled.valid)
    loss = surrogate_loss(
        rolled.reward,
        rolled.log_prob_keypoints,
        rolled.log_prob_matches,
        baseline=options.baseline,
        reference=reference,
        control=rolled.control,
        coefficient=1.0 if isinstance(coefficient, str) else coefficient,
        valid=rolled.valid,
        weight=weight,
        keypoint_weight=options.keypoint_weight,
        match_weight=options.match_weight,
    )
    with stage("backward"):
        (loss * scale).backward()
    return {
        **draw_statistics(rolled.reward, rolled.failed, rolled.valid),
        "candidates": rolled.matches.num_candidates.to(rolled.reward.dtype).mean(),
    }


def clip_gradients(
    parameters: Sequence[nn.Parameter], clip_norm: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | Tensor]:
    """(norm before clipping, whether there is something to follow: finite and not zero). Without a visit to the host.

    A gradient that is not finite becomes zero.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    finite = norm.isfinite()
    factor = torch.where(finite, (clip_norm / (norm + 1e-12)).clamp_max(1.0), 0.0)
    for gradient in gradients:
        gradient.copy_(torch.where(finite, gradient * factor, 0.0))
    return torch.where(finite, norm, 0.0), finite & (norm > 0)


def step_where(usable: Bool[Tensor, ""], optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimiser, taken back on the device unless ``usable``: its momentum must not move the weights."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    # Adam keeps its step counter on the CPU; there it may count a step too many, the weights are what matters.
    touched = [value for value in (*parameters, *state) if value.device == usable.device]
    before = [value.detach().clone() for value in touched]
    optimizer.step()
    with torch.no_grad():
        for value, old in zip(touched, before, strict=True):
            value.copy_(torch.where(usable, value, old))


def trainable_parameters(network: nn.Module, frozen: Sequence[str] = ()) -> list[nn.Parameter]:
    """The parameters that require a gradient and match none of the shell patterns.

    Raises:
        InputError: a pattern that matches no parameter, or nothing left to train.
    """
    names = [name for name, _ in network.named_parameters()]
    for pattern in frozen:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"frozen pattern {pattern!r} matches no parameter; the first ones are {names[:3]}")
    chosen = [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not any(fnmatch.fnmatchcase(name, pattern) for pattern in frozen)
    ]
    if not chosen:
        raise InputError("expected at least one parameter to train, got none; freeze fewer of them")
    return chosen


def stream_seed(seed: int, step: int) -> int:
    """What a stream's generator begins with at one step of a run; far from the small numbers that people choose.

    A sum of both would meet the seeds of fixed sets, and a set that judges must not be what trains.
    """
    return int.from_bytes(hashlib.sha256(f"pairs of step {step}, seed {seed}".encode()).digest()[:8]) >> 1


class _RunState:
    """One call of ``Trainer.fit``: what changes from step to step."""

    def __init__(
        self,
        trainer: Trainer,
        pairs,
        validation,
        folder: Path | None,
        resume: bool,
        on_step,
        on_validation,
        on_warning,
    ):
        self.trainer, self.options, self.network = trainer, trainer.options, trainer.network
        self.pairs, self.validation, self.folder = pairs, validation, folder
        self.on_step, self.on_validation = on_step, on_validation
        device = trainer.device
        self.optimizer = torch.optim.Adam(
            trainer.parameters, lr=self.options.learning_rate, capturable=device.type == "cuda"
        )
        self.generator = torch.Generator(device=device).manual_seed(self.options.seed)
        self.step = 0
        self.best, self.best_step, self.best_score = _copy_of_weights(self.network), 0, float("-inf")
        self.average = _copy_of_weights(self.network) if self.options.averaging else None
        self.memory: RewardMemory | None = None
        if self.options.remembers_rewards:
            number = 0 if isinstance(pairs, PairStream) else len(pairs)
            self.memory = RewardMemory(number, decay=self.options.reward_memory, device=device)
        self.validations: list[dict[str, Any]] = []
        self.skipped, self.seconds = 0, 0.0
        self.identity = _identity(trainer, pairs, validation)
        if resume and folder is not None:
            self._restore(load_checkpoint(folder, run=self.identity, network=self.network))
            if self.step > self.options.steps:
                raise InputError(f"{folder}: {self.step} steps are done already; give --steps of at least that many")
        path = None if folder is None else folder / "metrics.jsonl"
        self.log = MetricsLog(path, keep_up_to_step=self.step if resume else None)
        self.pending: list[tuple[int, int, dict[str, Tensor]]] = []
        self.loader = None if isinstance(pairs, PairStream) else self._loader(on_warning)

    def to_the_end(self) -> TrainingSummary:
        with deferred_interruption() as interruption, self.loader or nullcontext():
            return self._steps(interruption)

    def _steps(self, interruption: Interruption) -> TrainingSummary:
        options = self.options
        started = time.perf_counter() - self.seconds
        if self.step == 0:
            self._validate()
        per_step = options.pairs_per_step * options.accumulate
        while self.step < options.steps:
            with stage("pairs"):
                pairs, numbers, skipped = self._pairs_of_step(per_step)
            starts = range(0, per_step, options.pairs_per_step)
            batches = [pairs[k : k + options.pairs_per_step] for k in starts]
            of_batches = [numbers[k : k + options.pairs_per_step] for k in starts]
            for group in self.optimizer.param_groups:
                group["lr"] = options.learning_rate * min(1.0, (self.step + 1) / max(1, options.warmup_steps))
            metrics = self.trainer.gradient_step(batches, self.optimizer, self.generator, self.memory, of_batches)
            self.step += 1
            self._average_weights()
            self.pending.append((self.step, skipped, metrics))
            at_end = self.step == options.steps
            if at_end or self.step % options.log_every == 0:
                self.seconds = time.perf_counter() - started
                self._read_metrics()
            if at_end or self.step % options.validate_every == 0:
                self._validate()
            stop = interruption.requested and not at_end
            if self.folder is not None and (at_end or stop or self.step % options.checkpoint_every == 0):
                self.seconds = time.perf_counter() - started
                self._read_metrics()
                save_checkpoint(self._state(), self.folder)
                with self._averaged_weights():
                    save_weights(self.network, self.folder / "last.safetensors", {"step": str(self.step)})
            if stop:
                kept = "" if self.folder is None else f"; go on by resuming {self.folder}"
                raise KeyboardInterrupt(f"after step {self.step} of {options.steps}{kept}")
        if self.validation is not None:
            self.network.load_state_dict(self.best)
        elif self.average is not None:
            self.network.load_state_dict(self.average)
        if self.folder is not None:
            save_weights(self.network, self.folder / WEIGHTS_FILE, {"step": str(self._kept_step())})
        return TrainingSummary(
            steps=self.step,
            best_step=self._kept_step(),
            validations=self.validations,
            metrics=self.log.rows,
            skipped_steps=self.skipped,
            skipped_pairs=sum(row.get("skipped_pairs", 0) for row in self.log.rows),
            seconds=time.perf_counter() - started,
        )

    def _loader(self, on_warning: Callable[[str], None] | None) -> PairLoader:
        options = self.options
        return PairLoader(
            self.pairs,
            batch_size=options.pairs_per_step * options.accumulate,
            seed=options.seed,
            steps=range(self.step, options.steps),
            workers=options.workers,
            strict=options.strict,
            device=self.trainer.device,
            on_warning=on_warning,
        )

    def _pairs_of_step(self, count: int) -> tuple[list[PosedPair], Int[Tensor, "B"], int]:
        """The pairs of the present step on the network's device, their numbers, and how many could not be read.

        By the seed and the step alone: a run resumes.
        """
        if self.loader is None:
            generator = torch.Generator(device=self.trainer.device)
            generator.manual_seed(stream_seed(self.options.seed, self.step))
            none = torch.full((count,), -1, device=self.trainer.device)
            return self.pairs.draw(count, generator=generator), none, 0
        loaded = next(self.loader)
        return loaded.pairs, loaded.numbers, loaded.skipped

    @torch.no_grad()
    def _average_weights(self) -> None:
        """Move the average towards the weights of this step; a young one follows faster."""
        if self.average is None:
            return
        decay = min(self.options.averaging, (self.step + 1) / (self.step + 10))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The network with its averaged weights inside, where it has them."""
        if self.average is None:
            yield
            return
        own = _copy_of_weights(self.network)
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def _kept_step(self) -> int:
        return self.step if self.validation is None else self.best_step

    def _read_metrics(self) -> None:
        """Bring the pending metrics to the host, all at once."""
        if not self.pending:
            return
        names = list(self.pending[0][-1])
        columns = [torch.stack([row[name].detach() for name in names]) for *_, row in self.pending]
        for (step, skipped, _), values in zip(self.pending, torch.stack(columns).tolist(), strict=True):
            row = {"step": step, **dict(zip(names, values, strict=True)), "skipped_pairs": skipped}
            row["seconds"] = self.seconds
            self.skipped += int(row["skipped"])
            self.log.append(row)
        self.pending = []
        if self.on_step is not None:
            self.on_step(self.log.rows[-1])

    def _validate(self) -> None:
        if self.validation is None:
            return
        with stage("validation"), self._averaged_weights():
            report = judged(self.network, self.validation, self.options.judge)
            score = report.auc[self.options.judge.select_on]
            self.validations.append({"step": self.step, "auc": dict(report.auc)})
            if score > self.best_score:
                self.best_score, self.best_step = score, self.step
                self.best = _copy_of_weights(self.network)
                if self.folder is not None:
                    save_weights(self.network, self.folder / WEIGHTS_FILE, {"step": str(self.step)})
        if self.on_validation is not None:
            self.on_validation(self.step, report)

    def _state(self) -> TrainingState:
        return TrainingState(
            step=self.step,
            network=_copy_of_weights(self.network),
            average=self.average,
            optimizer=self.optimizer.state_dict(),
            generator=self.generator.get_state(),
            best=self.best,
            best_step=self.best_step,
            best_score=self.best_score,
            validations=self.validations,
            skipped_steps=self.skipped,
            seconds=self.seconds,
            run=self.identity,
            rewards=None if self.memory is None else self.memory.state_dict(),
        )

    def _restore(self, state: TrainingState) -> None:
        self.network.load_state_dict(state.network)
        if state.average is not None:
            self.average = {name: value.to(self.trainer.device) for name, value in state.average.items()}
        self.optimizer.load_state_dict(state.optimizer)
        self.generator.set_state(state.generator)
        self.step, self.seconds, self.skipped = state.step, state.seconds, state.skipped_steps
        self.best, self.best_step, self.best_score = state.best, state.best_step, state.best_score
        self.validations = state.validations
        if self.memory is not None and state.rewards is not None:
            self.memory.load_state_dict(state.rewards)


def _identity(
    trainer: Trainer, pairs: PairSequence | PairStream, validation: Sequence[PosedPair] | None
) -> dict[str, Any]:
    """What a resumed run must share with its beginning. The number of steps may grow; how pairs are read is free."""
    chosen = {name: value for name, value in asdict(trainer.options).items() if name not in FREE_TO_CHANGE}
    reward: Any = trainer.reward
    return {
        **chosen,
        "data": _digest(pairs),
        "validation": None if validation is None else _digest(validation),
        "estimator": type(trainer.estimator).__name__,
        "reward": repr(reward) if dataclasses.is_dataclass(reward) else type(reward).__name__,
    }


def _digest(pairs: PairSequence | PairStream) -> str:
    """Tells one data set from another, in one line."""
    if isinstance(pairs, PairStream):
        return repr(pairs)
    names = getattr(pairs, "names", None) or [str(len(pairs))]
    size = getattr(pairs, "image_size", None)
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    return f"{len(pairs)} pairs at {size} px, {digest}" if size else f"{len(pairs)} pairs, {digest}"


def _copy_of_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
