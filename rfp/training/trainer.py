"""The training loop: roll out, reinforce, step; validate under deployment and keep the best weights."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rfp.data.augmentation import photometric_augmentation
from rfp.data.loading import LoadedPairs, PairLoader
from rfp.data.pairs import PairSequence, PairStream
from rfp.evaluation.evaluate import EvaluationReport, evaluate
from rfp.models.pretrained import WEIGHTS_FILE, network_name, save_weights
from rfp.models.state import device_of, in_channels_last, in_eval_mode
from rfp.records import InputError, PosedPair
from rfp.reinforce import RewardMemory
from rfp.rewards import callable_name
from rfp.rollout import (
    FeatureNetwork,
    Reward,
    Rollout,
    RolloutOptions,
    TaskEstimator,
    default_estimator,
    rollout,
)
from rfp.stages import stage
from rfp.training.checkpoint import (
    LAST_WEIGHTS_FILE,
    TrainingState,
    copy_of_weights,
    holding,
    load_checkpoint,
    prepare_run_folder,
    save_checkpoint,
    write_json,
)
from rfp.training.curriculum import Curriculum, hardness_of, pair_statistics
from rfp.training.drift import NUM_PAIRS, Drift, evenly_spaced
from rfp.training.interruption import Interruption, deferred_interruption
from rfp.training.metrics_log import METRICS_NAME, VALIDATIONS_NAME, MetricsLog, rows_on_host
from rfp.training.objective import (
    check_reward,
    clip_gradients,
    not_finite,
    reinforce,
    reward_by_options,
    step_where,
)
from rfp.training.options import JudgeOptions, TrainerOptions
from rfp.training.parameters import no_feature_network, parameter_groups, trainable_parameters
from rfp.training.parts import Part, gradient_norms, network_parts
from rfp.training.run_identity import describe_pairs, lasting_options, stream_seed
from rfp.training.schedules import learning_rate_at, temperature_at
from rfp.training.trust_region import TrustRegion, mean_entropy


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
            InputError: the network lacks ``extract`` or ``describe``, or has nothing to train; options that ask of the
                reward what it does not give.
        """
        if not isinstance(network, FeatureNetwork):
            raise no_feature_network(network)
        self.network = network
        self.options = TrainerOptions() if options is None else options
        self.estimator = default_estimator(self.options.rollout) if estimator is None else estimator
        self.reward = reward_by_options(self.options) if reward is None else reward
        check_reward(self.reward, self.options)
        self.device = device_of(network)
        self.parameters = trainable_parameters(network, self.options.frozen)
        self.parts: dict[str, Part] = {}
        self.groups = parameter_groups(network, self.options.frozen, self.options.rates)

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
        if isinstance(pairs, PairStream) and self.options.curriculum.on:
            raise InputError("a curriculum is for data sets; a stream makes new pairs at every step: leave it out")
        folder = None if output is None else prepare_run_folder(output, resume=resume)
        if folder is None and resume:
            raise InputError("expected a run folder to resume from, got none; give output=")
        # Evaluation mode throughout: batch-norm statistics are the pretrained network's and must not move, and a
        # policy that changes with what stands beside it in the batch has no log-probability of its own.
        with in_eval_mode(self.network), in_channels_last(self.network):
            run = _RunState(self, pairs, validation, folder, resume, on_step, on_validation, on_warning)
            if folder is not None:
                options = {"network": network_name(self.network), **(record or {}), "trainer": asdict(self.options)}
                write_json(folder / "options.json", options)
            return run.to_the_end()

    def gradient_step(
        self,
        batches: Sequence[Sequence[PosedPair]],
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        *,
        temperature: float | None = None,
        trust_region: TrustRegion | None = None,
        memory: RewardMemory | None = None,
        numbers: Sequence[Int[Tensor, "B"]] | None = None,
        on_rollout: Callable[[Rollout], None] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """One optimiser step over batches of pairs; its metrics as tensors on the device, without waiting for it.

        Args:
            temperature: τ of the match policy in this step; by default the options'.
            trust_region: To the network that training began with, weighted by its options.
            memory: Of earlier rewards, for options that need it.
            numbers: Of the pairs of each batch in it.
            on_rollout: Called with each batch's rollout, on the device; must not wait for it.
        """
        options = self.options.rollout
        if temperature is not None:
            options = replace(options, matches=replace(options.matches, temperature=temperature))
        optimizer.zero_grad(set_to_none=True)
        rows = []
        for which, pairs in enumerate(batches):
            pairs = self._augmented(pairs, generator)
            rolled = rollout(
                self.network,
                pairs,
                options=options,
                generator=generator,
                estimator=self.estimator,
                reward=self.reward,
                deployed=self.options.baseline == "self_critical",
            )
            if on_rollout is not None:
                on_rollout(rolled)
            penalty, distances = self._penalty(rolled, pairs, options, trust_region)
            number = None if numbers is None else numbers[which]
            row = reinforce(
                rolled, self.options, scale=1.0 / len(batches), penalty=penalty, memory=memory, number=number
            )
            rows.append({**row, **distances})
        self.parts = self.parts or network_parts(self.network, batches[0][0].image1)
        parts = gradient_norms(self.network.named_parameters(), self.parts)
        with stage("optimiser"):
            norm, usable = clip_gradients(self.parameters, self.options.clip_norm)
            step_where(usable, optimizer)
        means = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        return {**means, "gradient_norm": norm, **parts, "skipped": (~usable).to(norm.dtype)}

    def _augmented(self, pairs: Sequence[PosedPair], generator: torch.Generator) -> Sequence[PosedPair]:
        """The pairs, turned and cropped, then with other light and focus, as far as the options say."""
        options = self.options
        if options.geometric.on:
            pairs = [options.geometric(pair, generator=generator) for pair in pairs]
        if options.augment:
            photometric = options.photometric
            pairs = [photometric_augmentation(pair, generator=generator, augmentation=photometric) for pair in pairs]
        return pairs

    def _penalty(
        self, rolled: Rollout, pairs: Sequence[PosedPair], options: RolloutOptions, trust_region: TrustRegion | None
    ) -> tuple[Float[Tensor, ""] | None, dict[str, Float[Tensor, ""]]]:
        """(what is added to the surrogate, its parts by name); (None, nothing) where nothing is."""
        penalty, parts = None, {}
        if trust_region is not None:
            with stage("trust region"):
                penalty, parts = trust_region.penalty(rolled, pairs, options)
        if self.options.entropy_weight != 0.0:
            reward = self.options.entropy_weight * mean_entropy(rolled)
            penalty = -reward if penalty is None else penalty - reward
        return penalty, parts


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
            trainer.groups, lr=self.options.learning_rate, capturable=device.type == "cuda"
        )
        self.generator = torch.Generator(device=device).manual_seed(self.options.seed)
        self.step = 0
        self.best, self.best_step, self.best_score = copy_of_weights(self.network), 0, float("-inf")
        self.average = copy_of_weights(self.network) if self.options.averaging else None
        self.trust_region = TrustRegion(self.network, self.options.trust) if self.options.trust.on else None
        self.memory: RewardMemory | None = None
        if self.options.remembers_rewards:
            number = 0 if isinstance(pairs, PairStream) else len(pairs)
            self.memory = RewardMemory(number, decay=self.options.reward_memory, device=device)
        self.validations: list[dict[str, Any]] = []
        self.start = copy_of_weights(self.network)
        self.skipped, self.seconds = 0, 0.0
        self.identity = _identity(trainer, pairs, validation)
        restored = None
        if resume and folder is not None:
            defaults = lasting_options(TrainerOptions())
            restored = load_checkpoint(folder, run=self.identity, defaults=defaults, network=self.network)
            self._restore(restored)
            if self.step > self.options.steps:
                raise InputError(f"{folder}: {self.step} steps are done already; give --steps of at least that many")
        path = None if folder is None else folder / METRICS_NAME
        kept = self.step if resume else None
        self.log = MetricsLog(path, keep_up_to_step=kept)
        path = None if folder is None else folder / VALIDATIONS_NAME
        self.validation_log = MetricsLog(path, keep_up_to_step=kept)
        self.drift = self._drift_from_start()
        self.curriculum = self._curriculum(restored)
        self.statistics: list[Tensor] = []
        self.pending: list[tuple[int, dict[str, float], dict[str, Tensor]]] = []
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
                loaded = self._pairs_of_step(per_step)
            starts = range(0, per_step, options.pairs_per_step)
            scheduled = self._set_rates()
            metrics = self.trainer.gradient_step(
                [loaded.pairs[k : k + options.pairs_per_step] for k in starts],
                self.optimizer,
                self.generator,
                temperature=scheduled.get("temperature"),
                trust_region=self.trust_region,
                memory=self.memory,
                numbers=[loaded.numbers[k : k + options.pairs_per_step] for k in starts],
                on_rollout=self._watch,
            )
            self._remember(loaded.numbers)
            self.step += 1
            self._average_weights()
            self.pending.append((self.step, {**scheduled, "skipped_pairs": loaded.skipped}, metrics))
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
                    save_weights(self.network, self.folder / LAST_WEIGHTS_FILE, {"step": str(self.step)})
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

    def _set_rates(self) -> dict[str, float]:
        """Give the optimiser the learning rates of the present step, and return what is scheduled by name."""
        options, schedule = self.options, self.options.schedule
        rate = learning_rate_at(self.step, options.learning_rate, options.warmup_steps, schedule, options.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        scheduled = {} if schedule.rate == "constant" else {"learning_rate": rate}
        if schedule.final_temperature is not None:
            first = options.rollout.matches.temperature
            scheduled["temperature"] = temperature_at(self.step, first, schedule, options.steps)
        return scheduled

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
            order=None if self.curriculum is None else self.curriculum.indices,
        )

    def _watch(self, rolled: Rollout) -> None:
        """Keep on the device what the curriculum asks of a batch."""
        if self.curriculum is not None:
            self.statistics.append(pair_statistics(rolled))

    def _remember(self, numbers: Int[Tensor, "P"]) -> None:
        """Tell the curriculum which pairs of the data set the batches of a step were."""
        if self.curriculum is not None:
            self.curriculum.add(numbers, torch.cat(self.statistics, dim=1))
            self.statistics = []

    def _curriculum(self, restored: TrainingState | None) -> Curriculum | None:
        """The order of the pairs by the rewards seen, where one is wanted."""
        options, pairs = self.options, self.pairs
        if not options.curriculum.on:
            return None
        hardness = None
        if restored is None and options.curriculum.warmup_steps > 0:
            hardness = hardness_of(pairs, lambda chosen: judged(self.network, chosen, options.judge).errors_deg)
        curriculum = Curriculum(
            options.curriculum,
            len(pairs),
            pairs_per_step=options.pairs_per_step * options.accumulate,
            block=options.log_every,
            seed=options.seed,
            hardness=hardness,
        )
        if restored is not None and restored.curriculum is not None:
            curriculum.restore(restored.curriculum)
        return curriculum

    def _pairs_of_step(self, count: int) -> LoadedPairs:
        """The pairs of the present step on the network's device.

        By the seed and the step (and the rewards seen, under a curriculum) alone: a run resumes.
        """
        if self.loader is None:
            generator = torch.Generator(device=self.trainer.device)
            generator.manual_seed(stream_seed(self.options.seed, self.step))
            none = torch.full((count,), -1, device=self.trainer.device)
            return LoadedPairs(self.pairs.draw(count, generator=generator), numbers=none)
        return next(self.loader)

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

    def _averaged_weights(self) -> AbstractContextManager[None]:
        """The network with its averaged weights inside, where it has them."""
        return nullcontext() if self.average is None else holding(self.network, self.average)

    def _kept_step(self) -> int:
        return self.step if self.validation is None else self.best_step

    def _read_metrics(self) -> None:
        """Bring the pending metrics to the host, all at once."""
        if not self.pending:
            return
        for row in rows_on_host(self.pending):
            if not math.isfinite(row["reward"] + row.get("reward_deployed", 0.0)):
                raise not_finite(self.trainer.reward, f"step {row['step']}")
            row["seconds"] = self.seconds
            self.skipped += int(row["skipped"])
            self.log.append(row)
        self.pending = []
        if self.curriculum is not None:
            self.curriculum.read(self.step)
        if self.on_step is not None:
            self.on_step(self.log.rows[-1])

    def _validate(self) -> None:
        with stage("validation"), self._averaged_weights():
            drift = {} if self.drift is None else self.drift(self.network)  # type: ignore[arg-type]
            if self.validation is None:
                self.validation_log.append({"step": self.step, **drift})
                return
            report = judged(self.network, self.validation, self.options.judge)
            score = report.auc[self.options.judge.select_on]
            self.validations.append({"step": self.step, "auc": dict(report.auc), **drift})
            auc = {f"auc_{threshold}": value for threshold, value in report.auc.items()}
            self.validation_log.append({"step": self.step, **auc, **drift})
            if score > self.best_score:
                self.best_score, self.best_step = score, self.step
                self.best = copy_of_weights(self.network)
                if self.folder is not None:
                    save_weights(self.network, self.folder / WEIGHTS_FILE, {"step": str(self.step)})
        if self.on_validation is not None:
            self.on_validation(self.step, report)

    def _drift_from_start(self) -> Drift | None:
        """Measures how far the network moves from what it was before the first step, resumed or not.

        On pairs that validate, else on some that teach; None where none of these can be read.
        """
        watched = self._watched_pairs() if self.validation is None else self.validation
        if not watched:
            return None
        with holding(self.network, self.start), in_eval_mode(self.network):
            return Drift(self.network, watched, self.options.rollout.keypoints)  # type: ignore[arg-type]

    def _watched_pairs(self) -> Sequence[PosedPair]:
        """A few of the pairs that teach, the same in every part of a run."""
        if isinstance(self.pairs, PairStream):
            generator = torch.Generator(device=self.trainer.device)
            generator.manual_seed(stream_seed(self.options.seed, -1))  # no step has these
            return self.pairs.draw(NUM_PAIRS, generator=generator)
        watched = []
        for number in evenly_spaced(len(self.pairs)):
            with suppress(InputError):  # the loader says which image cannot be read
                watched.append(self.pairs[number])
        return watched

    def _state(self) -> TrainingState:
        return TrainingState(
            step=self.step,
            network=copy_of_weights(self.network),
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
            start=self.start,
            curriculum=None if self.curriculum is None else self.curriculum.state(),
            rewards=None if self.memory is None else self.memory.state_dict(),
        )

    def _restore(self, state: TrainingState) -> None:
        self.network.load_state_dict(state.network)
        if state.average is not None:
            self.average = {name: value.to(self.trainer.device) for name, value in state.average.items()}
        if self.trust_region is not None:
            self.trust_region.start.load_state_dict(state.start)
        self.optimizer.load_state_dict(state.optimizer)
        self.generator.set_state(state.generator)
        self.step, self.seconds, self.skipped = state.step, state.seconds, state.skipped_steps
        self.best, self.best_step, self.best_score = state.best, state.best_step, state.best_score
        self.validations, self.start = state.validations, state.start
        if self.memory is not None and state.rewards is not None:
            self.memory.load_state_dict(state.rewards)


def _identity(
    trainer: Trainer, pairs: PairSequence | PairStream, validation: Sequence[PosedPair] | None
) -> dict[str, Any]:
    """What a resumed run must share with its beginning. The number of steps may grow; how pairs are read is free."""
    return {
        **lasting_options(trainer.options),
        "data": describe_pairs(pairs),
        "validation": None if validation is None else describe_pairs(validation),
        "estimator": _estimator_name(trainer),
        "reward": callable_name(trainer.reward),
    }


def _estimator_name(trainer: Trainer) -> str:
    """That of the options' own is its class, as runs of earlier versions have it: its options stand beside it."""
    usual = default_estimator(trainer.options.rollout)
    name = callable_name(trainer.estimator)
    return type(usual).__name__ if name == callable_name(usual) else name
