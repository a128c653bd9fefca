"""Low-level pretraining: a start that matches most easy pairs, from which reinforcement goes on."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rfp.evaluation.evaluate import EvaluationReport
from rfp.models.pretrained import WEIGHTS_FILE, network_name, save_weights
from rfp.models.state import device_of, in_channels_last, in_eval_mode
from rfp.records import InputError, PosedPair
from rfp.rollout import FeatureNetwork
from rfp.training.checkpoint import (
    LAST_WEIGHTS_FILE,
    copy_of_weights,
    load_checkpoint,
    prepare_run_folder,
    save_checkpoint,
    write_json,
)
from rfp.training.interruption import Interruption, deferred_interruption
from rfp.training.metrics_log import METRICS_NAME, MetricsLog, rows_on_host
from rfp.training.objective import clip_gradients
from rfp.training.parameters import no_feature_network, trainable_parameters
from rfp.training.pretraining_losses import LabelledPairs, low_level_loss
from rfp.training.pretraining_options import PretrainingOptions
from rfp.training.run_identity import describe_pairs, stream_seed
from rfp.training.trainer import judged

FREE_TO_CHANGE = ("steps", "seconds")
"""Options that a resumed run need not share with its beginning."""


@runtime_checkable
class ViewSource(Protocol):
    """Where labelled pairs of views come from: ``HomographyViews``, ``RenderedViews``, ``PosedViews``, or your own.

    Its ``repr`` tells one source from another: a run resumes only with the one it began with.
    """

    def draw(self, count: int, *, step: int, generator: torch.Generator) -> list[LabelledPairs]:
        """``count`` pairs for the step of this number, in one batch for each size of image."""
        ...


@dataclass(frozen=True)
class PretrainingSummary:
    """How a run went. The network holds the weights of ``best_step``, averaged."""

    steps: int
    best_step: int
    """The last step where there was no validation."""
    validations: list[dict[str, Any]]
    """{"step", "auc"} of each validation."""
    metrics: list[dict[str, Any]]
    """One row a step."""
    seconds: float


class Pretrainer:
    """Trains a network on true correspondences and labelled key points, without a pose or an estimator.

    >>> network = rfp.models.Tiny(batch_norm=True)  # doctest: +SKIP
    >>> Pretrainer(network, PretrainingOptions(), from_scratch=True).fit(views)  # doctest: +SKIP
    >>> rfp.save_weights(network.without_batch_norm(), "start.safetensors")  # doctest: +SKIP
    """

    def __init__(self, network: nn.Module, options: PretrainingOptions | None = None, *, from_scratch: bool = False):
        """Prepare to train ``network``, which lies on the device to train on; it is changed in place.

        Args:
            from_scratch: The weights are random: batch norms learn their statistics, the rate is high, and a GPU
                computes the maps in bfloat16. Otherwise statistics stay frozen, as in training on the pose.

        Raises:
            InputError: the network lacks ``extract`` or ``describe``, or has nothing to train.
        """
        if not isinstance(network, FeatureNetwork):
            raise no_feature_network(network)
        self.network = network
        self.options = PretrainingOptions() if options is None else options
        self.from_scratch = from_scratch
        self.device = device_of(network)
        self.parameters = trainable_parameters(network, self.options.frozen)
        usual = 2e-3 if from_scratch else 1e-4
        self.learning_rate = usual if self.options.learning_rate is None else self.options.learning_rate

    def fit(
        self,
        views: ViewSource,
        *,
        validation: Sequence[PosedPair] | None = None,
        output: Path | str | None = None,
        resume: bool = False,
        record: Mapping[str, Any] | None = None,
        on_step: Callable[[dict[str, Any]], None] | None = None,
        on_validation: Callable[[int, EvaluationReport], None] | None = None,
    ) -> PretrainingSummary:
        """Train, and leave the network with the average of its weights: the best on ``validation``, or the last.

        Args:
            views: Labelled pairs on the network's device.
            validation: Posed pairs on which the average is judged under deployment; the start is a candidate unless
                its weights are random.
            output: Run folder, which gets options, metrics, weights and checkpoints; None writes nothing. The weights
                are the deployed network's: batch norms that learnt their statistics are folded where the network can
                (``without_batch_norm``).
            resume: Go on from the checkpoint in ``output``.
            record: Entries added to the run's ``options.json``.
            on_step: Called with the last row of metrics every ``log_every`` steps.
            on_validation: Called with the step and the report of each validation.

        Ctrl-C (or SIGTERM) ends the run after the step in progress, with a checkpoint in ``output``.

        Raises:
            InputError: a run in ``output`` already; nothing to resume from, or another network, options or data.
            KeyboardInterrupt: the run was interrupted.
        """
        folder = None if output is None else prepare_run_folder(output, resume=resume)
        if folder is None and resume:
            raise InputError("expected a run folder to resume from, got none; give output=")
        with in_eval_mode(self.network), in_channels_last(self.network), _fastest_convolutions(self.device):
            run = _PretrainingRun(self, views, validation, folder, resume, on_step, on_validation)
            if folder is not None:
                options = {"network": network_name(self.network), **(record or {}), "pretraining": asdict(self.options)}
                write_json(folder / "options.json", _finite(options))
            self.network.train(self.from_scratch)
            return run.to_the_end()

    def gradient_step(
        self, batches: Sequence[LabelledPairs], optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> dict[str, Float[Tensor, ""]]:
        """One optimiser step over batches of pairs; its metrics as tensors on the device, without waiting for it."""
        optimizer.zero_grad(set_to_none=True)
        total = sum(len(batch.seen) for batch in batches)
        rows = []
        for batch in batches:
            parts = low_level_loss(
                self.network,  # type: ignore[arg-type]
                batch,
                self.options,
                generator,
                bfloat16=self.options.bfloat16 or (self.from_scratch and self.device.type == "cuda"),
            )
            share = len(batch.seen) / total
            (parts["loss"] * share).backward()
            rows.append({name: value.detach() * share for name, value in parts.items()})
        norm, _ = clip_gradients(self.parameters, self.options.clip_norm)
        optimizer.step()
        return {**{name: torch.stack([row[name] for row in rows]).sum() for name in rows[0]}, "gradient_norm": norm}


def deployable(network: nn.Module) -> nn.Module:
    """The network as its weights are shipped: batch norms folded where it can, in eval mode."""
    fold = getattr(network, "without_batch_norm", None)
    return network.eval() if fold is None else fold()


def learning_rate_factor(step: int, progress: float) -> float:
    """A linear warm-up over 300 steps or a twentieth of the run, if that is shorter, then a half cosine to zero."""
    warm_up = max((step + 1) / 300, progress / 0.05)
    return min(1.0, warm_up) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the network's; its statistics of batch norm are taken as they are."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for slow, fast in zip(average.buffers(), network.buffers(), strict=True):
        slow.copy_(fast)


@dataclass
class PretrainingState:
    """Everything that the next step depends on, and what was best so far."""

    step: int
    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]
    generator: Tensor
    best: dict[str, Tensor]
    best_step: int
    best_score: float
    validations: list[dict[str, Any]]
    seconds: float
    run: dict[str, Any]
    """What must not change between the parts of a run."""


class _PretrainingRun:
    """One call of ``Pretrainer.fit``: what changes from step to step."""

    def __init__(
        self, pretrainer: Pretrainer, views, validation, folder: Path | None, resume: bool, on_step, on_validation
    ):
        self.pretrainer, self.options, self.network = pretrainer, pretrainer.options, pretrainer.network
        self.views, self.validation, self.folder = views, validation, folder
        self.on_step, self.on_validation = on_step, on_validation
        device = pretrainer.device
        self.average = copy.deepcopy(self.network)  # over the last steps: smoother than any of them
        self.optimizer = torch.optim.AdamW(
            pretrainer.parameters,
            lr=pretrainer.learning_rate,
            weight_decay=self.options.weight_decay,
            fused=device.type == "cuda",
        )
        # Neither the seed itself, with which sources may have been drawn, nor that of a step's rendered pairs.
        self.generator = torch.Generator(device).manual_seed(stream_seed(self.options.seed, -1))
        self.step, self.seconds = 0, 0.0
        self.best, self.best_step, self.best_score = copy_of_weights(self.average), 0, float("-inf")
        self.validations: list[dict[str, Any]] = []
        self.identity = _identity(pretrainer, views, validation)
        if resume and folder is not None:
            defaults = asdict(PretrainingOptions())
            state = load_checkpoint(
                folder, run=self.identity, defaults=defaults, network=self.network, kind=PretrainingState
            )
            self._restore(state)
            if self.step > self.options.steps:
                raise InputError(f"{folder}: {self.step} steps are done already; give --steps of at least that many")
        path = None if folder is None else folder / METRICS_NAME
        self.log = MetricsLog(path, keep_up_to_step=self.step if resume else None)
        self.pending: list[tuple[int, dict[str, Any], dict[str, Tensor]]] = []

    def to_the_end(self) -> PretrainingSummary:
        with deferred_interruption() as interruption:
            return self._steps(interruption)

    def _steps(self, interruption: Interruption) -> PretrainingSummary:
        options = self.options
        started = time.perf_counter() - self.seconds
        if self.step == 0 and not self.pretrainer.from_scratch:
            self._validate()
        at_end = self.step >= options.steps or self.seconds >= options.seconds
        while not at_end:
            self._one_step(max(self.step / options.steps, (time.perf_counter() - started) / options.seconds))
            self.seconds = time.perf_counter() - started
            at_end = self.step >= options.steps or self.seconds >= options.seconds
            if at_end or self.step % options.log_every == 0:  # a GPU is waited for here and nowhere else
                self._read_metrics()
            if at_end or self.step % options.validate_every == 0:
                self._validate()
            stop = interruption.requested and not at_end
            if self.folder is not None and (at_end or stop or self.step % options.checkpoint_every == 0):
                self._save(started)
            if stop:
                kept = "" if self.folder is None else f"; go on by resuming {self.folder}"
                raise KeyboardInterrupt(f"after step {self.step} of {options.steps}{kept}")
        kept = copy_of_weights(self.average) if self.validation is None else self.best
        self.network.load_state_dict(kept)
        self.average.load_state_dict(kept)
        if self.folder is not None:
            save_weights(deployable(self.average), self.folder / WEIGHTS_FILE, {"step": str(self._kept_step())})
        return PretrainingSummary(
            steps=self.step,
            best_step=self._kept_step(),
            validations=self.validations,
            metrics=self.log.rows,
            seconds=self.seconds,
        )

    def _one_step(self, progress: float) -> None:
        """The next step of the schedule, ``progress`` of which is behind."""
        rate = self.pretrainer.learning_rate * learning_rate_factor(self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = self.views.draw(self.options.pairs_per_step, step=self.step, generator=self.generator)
        metrics = self.pretrainer.gradient_step(batches, self.optimizer, self.generator)
        self.step += 1
        follow(self.average, self.network, decay=min(self.options.averaging, self.step / (self.step + 9)))
        self.pending.append((self.step, {"learning_rate": rate}, metrics))

    def _kept_step(self) -> int:
        return self.step if self.validation is None else self.best_step

    def _read_metrics(self) -> None:
        """Bring the pending metrics to the host, all at once."""
        if not self.pending:
            return
        for row in rows_on_host(self.pending):
            self.log.append({**row, "seconds": self.seconds})
        self.pending = []
        if self.on_step is not None:
            self.on_step(self.log.rows[-1])

    def _validate(self) -> None:
        """Judge the average under deployment, and keep it if it is the best so far."""
        if self.validation is None:
            return
        network = deployable(copy.deepcopy(self.average))
        report = judged(network, self.validation, self.options.judge)
        score = report.auc[self.options.judge.select_on]
        self.validations.append({"step": self.step, "auc": dict(report.auc)})
        if score > self.best_score:
            self.best_score, self.best_step, self.best = score, self.step, copy_of_weights(self.average)
            if self.folder is not None:
                save_weights(network, self.folder / WEIGHTS_FILE, {"step": str(self.step)})
        if self.on_validation is not None:
            self.on_validation(self.step, report)

    def _save(self, started: float) -> None:
        """A checkpoint, and the average as it is now."""
        assert self.folder is not None
        self._read_metrics()
        self.seconds = time.perf_counter() - started
        state = PretrainingState(
            step=self.step,
            network=copy_of_weights(self.network),
            average=copy_of_weights(self.average),
            optimizer=self.optimizer.state_dict(),
            generator=self.generator.get_state(),
            best=self.best,
            best_step=self.best_step,
            best_score=self.best_score,
            validations=self.validations,
            seconds=self.seconds,
            run=self.identity,
        )
        save_checkpoint(state, self.folder)
        average = deployable(copy.deepcopy(self.average))
        save_weights(average, self.folder / LAST_WEIGHTS_FILE, {"step": str(self.step)})

    def _restore(self, state: PretrainingState) -> None:
        self.network.load_state_dict(state.network)
        self.average.load_state_dict(state.average)
        self.optimizer.load_state_dict(state.optimizer)
        self.generator.set_state(state.generator)
        self.step, self.seconds = state.step, state.seconds
        self.best, self.best_step, self.best_score = state.best, state.best_step, state.best_score
        self.validations = state.validations


@contextmanager
def _fastest_convolutions(device: torch.device) -> Iterator[None]:
    """Let cuDNN try its algorithms: every step has the same sizes.

    No torch.set_float32_matmul_precision("high") beside it: TF32 keeps 10 bits, and points of 640 px would be half a
    pixel off.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _identity(pretrainer: Pretrainer, views: ViewSource, validation: Sequence[PosedPair] | None) -> dict[str, Any]:
    """What a resumed run must share with its beginning; it may become longer."""
    chosen = {name: value for name, value in asdict(pretrainer.options).items() if name not in FREE_TO_CHANGE}
    return {
        **chosen,
        "from_scratch": pretrainer.from_scratch,
        "data": repr(views),
        "validation": None if validation is None else describe_pairs(validation),
    }


def _finite(values: Any) -> Any:
    """The same options for JSON, which has no infinity: ``seconds`` becomes a string that float() reads."""
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    return str(values) if isinstance(values, float) and math.isinf(values) else values
