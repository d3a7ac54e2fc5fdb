"""The training loop. It knows nothing about the model: a model is called with a batch and gives a loss.

What it does besides `loss.backward()` and `optimizer.step()`: gradient accumulation and clipping, the
learning-rate schedule, evaluation, samples, the log, checkpoints from which a run goes on to the bit, and a
clean stop on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minilm import random
from minilm.nn.module import Module
from minilm.nn.utils import clip_grad_norm_
from minilm.optim import AdamW, Optimizer
from minilm.tensor import Tensor, no_grad

from . import checkpoint as checkpoints
from .checkpoint import CheckpointError
from .config import TrainingConfig
from .interrupt import StopOnInterrupt
from .log import Record, TrainingLog
from .objectives import model_loss
from .plots import plot_training

__all__ = [
    "Batches",
    "TrainingDiverged",
    "TrainingLoop",
    "TrainingResult",
    "parameter_groups",
]

Batch = dict[str, Any]

# Settings in which a resumed run may differ from the run it goes on with: how long it is, and what it reports.
FREE_SETTINGS = {
    "steps", "log_interval", "eval_interval", "eval_batches", "sample_interval", "sample_prompt",
    "sample_tokens", "checkpoint_interval", "keep_checkpoints",
}  # fmt: skip


class TrainingDiverged(RuntimeError):
    """The loss or the gradient became NaN or infinite; no step was made with it."""


class Batches(Protocol):
    """An endless iterator over batches that can say where it stands, such as `minilm.data.RandomWindows`."""

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        step: optimiser steps done.
        interrupted: whether Ctrl-C ended it.
        records: the log.
        checkpoint: the last one, if the run keeps any.
        best_step, best_loss: of the evaluation with the lowest validation loss, if there was one.
    """

    step: int
    interrupted: bool
    records: list[Record]
    checkpoint: Path | None
    best_step: int | None
    best_loss: float | None


def parameter_groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trained parameters: matrices with weight decay; biases, norms and other vectors without.

    Decay pulls a weight towards 0. That is a sensible prior for a matrix; for the gain of a norm, which
    starts at 1, it is not.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class TrainingLoop:
    """Trains a model on batches.

    Args:
        model: any `Module`.
        batches: an endless iterator over batches that can say where it stands.
        config: the settings.
        validation: the batches of every evaluation; without them nothing is evaluated.
        loss_function: `(model, batch) -> loss`, a mean over the batch; by default `model(**batch).loss`.
        optimizer: by default AdamW with the settings of `config` and `parameter_groups`.
        sample: returns a text written by the model; called every `sample_interval` steps.
        tokenizer: saved in every checkpoint.
        folder: of the run, for log, checkpoints and picture; None writes no file.
        on_record: called with every record of the log, for pictures that grow and other uses.
        progress: whether to show a progress bar and print evaluations and samples.

    >>> loop = TrainingLoop(model, RandomWindows(tokens, 16, 128, seed=0), TrainingConfig(steps=500))
    >>> result = loop.run()
    """

    def __init__(
        self,
        model: Module,
        batches: Batches,
        config: TrainingConfig,
        *,
        validation: Sequence[Batch] = (),
        loss_function: Callable[[Module, Batch], Tensor] = model_loss,
        optimizer: Optimizer | None = None,
        sample: Callable[[], str] | None = None,
        tokenizer: Any = None,
        folder: str | Path | None = None,
        on_record: Callable[[Record], None] | None = None,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.batches = batches
        self.config = config
        self.validation = validation
        self.loss_function = loss_function
        self.optimizer = optimizer or AdamW(
            parameter_groups(model, config.weight_decay),
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
        )
        self.sample = sample
        self.tokenizer = tokenizer
        self.folder = None if folder is None else Path(folder)
        self.on_record = on_record
        self.progress = progress

        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        self.best: tuple[int, float] | None = None  # step and validation loss
        self.log = TrainingLog(self.folder / "log.jsonl" if self.folder else None)
        self._resumed = False
        self._recent: list[float] = []  # losses since the last record

    def run(self) -> TrainingResult:
        """Train up to `config.steps` and return how it went.

        Ctrl-C finishes the step that is being done, leaves a checkpoint and returns; a second Ctrl-C stops at
        once, with the checkpoints written so far. At the end the folder of the run holds `log.jsonl`,
        `training.png` and `checkpoints/`.

        Raises:
            TrainingDiverged: the loss or the gradient is NaN or infinite; earlier checkpoints are kept.
            FileExistsError: the folder holds checkpoints of an earlier run that is not being resumed.
        """
        if not self._resumed:
            if self.folder is not None and checkpoints.list_checkpoints(self.folder):
                raise FileExistsError(
                    f"{self.folder} holds the checkpoints of an earlier run; resume it or choose another"
                )
            self.log.start([])
        self.model.train()
        with self._progress_bar() as bar, StopOnInterrupt() as stop:
            if self.step == 0:
                self._evaluate(bar)
            while self.step < self.config.steps and not stop.requested:
                self._step(bar)
            # Within the context, so that one Ctrl-C too many does not hit the last checkpoint.
            last = self.save() if self.folder is not None else None
        if self.folder is not None and any("loss" in record for record in self.log.records):
            plot_training(self.log.records, self.folder / "training.png")
        best_step, best_loss = self.best or (None, None)
        interrupted = self.step < self.config.steps
        return TrainingResult(self.step, interrupted, self.log.records, last, best_step, best_loss)

    def evaluate(self) -> float:
        """Return the mean loss over the validation batches, without dropout; no random state changes.

        Raises:
            ValueError: the loop was given no validation batches.
        """
        if not self.validation:
            raise ValueError("there are no validation batches; pass them to TrainingLoop(validation=...)")
        with self._evaluating():
            losses = [self.loss_function(self.model, batch).item() for batch in self.validation]
        return math.fsum(losses) / len(losses)

    def save(self) -> Path:
        """Write a checkpoint of the present step into the folder of the run and return where it stands.

        Raises:
            ValueError: the loop has no folder.
        """
        if self.folder is None:
            raise ValueError("this loop keeps no files; pass TrainingLoop(folder=...) to save checkpoints")
        state: dict[str, Any] = {
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": self.best,
            "config": self.config.to_dict(),
            "random": random.get_state(),
            "batches": self.batches.state_dict(),
            "recent_losses": self._recent,
            "records": self.log.records,
        }

        def write_files(folder: Path) -> None:
            if hasattr(self.model, "save_pretrained"):
                self.model.save_pretrained(folder)
            else:
                checkpoints.write_arrays(self.model.state_dict(), folder / "model.safetensors")
            if hasattr(self.tokenizer, "save_pretrained"):
                self.tokenizer.save_pretrained(folder)
            optimizer = self.optimizer.state_dict()
            state["optimizer"] = checkpoints.write_arrays(optimizer, folder / "optimizer.safetensors")

        target = checkpoints.checkpoint_folder(self.folder, self.step)
        checkpoints.write_checkpoint(target, write_files, state)
        best_step = None if self.best is None else self.best[0]
        checkpoints.prune_checkpoints(self.folder, self.config.keep_checkpoints, best_step)
        return target

    def resume(self, checkpoint: str | Path | None = None) -> None:
        """Take over the state of a checkpoint, so that `run` goes on as if it had never stopped.

        Args:
            checkpoint: its folder; by default the newest in the folder of the run.

        Raises:
            CheckpointError: it is missing, damaged or foreign, or belongs to another model, other data or
                other settings. The loop is then in no defined state; make a new one.
        """
        if checkpoint is None:
            if self.folder is None:
                raise ValueError("this loop keeps no files; name the checkpoint to resume from")
            checkpoints.restore_replaced(self.folder)
            checkpoint = checkpoints.latest_checkpoint(self.folder)
        checkpoint = Path(checkpoint)
        state = checkpoints.read_checkpoint(checkpoint)
        self._check_settings(checkpoint, state["config"])
        try:
            self._load_model(checkpoint)
            optimizer = checkpoints.read_arrays(state["optimizer"], checkpoint / "optimizer.safetensors")
            self.optimizer.load_state_dict(optimizer)
            self.batches.load_state_dict(state["batches"])
            random.set_state(state["random"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{checkpoint} does not belong to this run: {error}") from error
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self._recent = list(state["recent_losses"])
        self.log.start(state["records"])
        self._resumed = True

    # One step and what follows it

    def _step(self, bar: Any) -> None:
        config = self.config
        started = time.perf_counter()
        loss, norm, tokens = self._update()
        self.seconds += time.perf_counter() - started
        self.tokens += tokens
        self.step += 1
        self._recent.append(loss)
        bar.set_postfix_str(f"loss {loss:.3f}, {self.tokens / self.seconds:,.0f} tokens/s", refresh=False)
        bar.update()

        last = self.step == config.steps
        if self.step % config.log_interval == 0 or last:
            self._record_training(norm)
        best = _due(self.step, config.eval_interval, last) and self._evaluate(bar)
        if self.sample is not None and _due(self.step, config.sample_interval, last):
            self._write_sample(bar)
        if self.folder is not None and not last and (best or _due(self.step, config.checkpoint_interval)):
            self.save()  # `run` saves the last step

    def _update(self) -> tuple[float, float, int]:
        """Change the weights once; return the loss, the norm of the gradient before clipping, and the tokens."""
        rate = self.config.learning_rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        parts = self.config.gradient_accumulation_steps
        total, tokens = 0.0, 0
        for _ in range(parts):
            batch = next(self.batches)
            loss = self.loss_function(self.model, batch)
            total += loss.item() / parts
            tokens += int(np.size(batch["input_ids"]))
            if not math.isfinite(total):
                self._diverged("the loss", total)
            (loss if parts == 1 else loss * (1 / parts)).backward()
        norm = float(clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm))
        if not math.isfinite(norm):
            self._diverged("the norm of the gradient", norm)
        self.optimizer.step()
        return total, norm, tokens

    def _diverged(self, what: str, value: float) -> None:
        kept = checkpoints.list_checkpoints(self.folder) if self.folder else []
        last = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        rate = self.config.learning_rate_at(self.step)
        raise TrainingDiverged(
            f"{what} is {value} in step {self.step + 1} (learning rate {rate:.2g}); {last}. Try a lower "
            "learning rate, a longer warm-up or a smaller max_grad_norm"
        )

    def _evaluate(self, bar: Any) -> bool:
        """Evaluate and record; return whether this is the best validation loss so far."""
        if not self.validation or not self.config.eval_interval:
            return False
        loss = self.evaluate()
        if not math.isfinite(loss):
            self._diverged("the validation loss", loss)
        best = self.best is None or loss < self.best[1]
        if best:
            self.best = (self.step, loss)
        self._record({"step": self.step, "validation_loss": loss})
        self._say(bar, f"step {self.step}: validation loss {loss:.4f}")
        return best

    def _write_sample(self, bar: Any) -> None:
        assert self.sample is not None
        try:
            with self._evaluating():
                text = self.sample()
        except Exception:  # what has been learnt is not lost with the sample
            if self.folder is not None:
                self.save()
            raise
        self._record({"step": self.step, "sample": text})
        self._say(bar, f"step {self.step}: {text}")

    def _record_training(self, norm: float) -> None:
        self._record(
            {
                "step": self.step,
                "loss": math.fsum(self._recent) / len(self._recent),
                "grad_norm": norm,
                "learning_rate": self.config.learning_rate_at(self.step - 1),
                "tokens": self.tokens,
                "seconds": round(self.seconds, 3),
            }
        )
        self._recent = []

    def _record(self, record: Record) -> None:
        self.log.add(record)
        if self.on_record is not None:
            self.on_record(record)

    def _say(self, bar: Any, text: str) -> None:
        if self.progress:
            bar.write(text)

    # Around the steps

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Without gradients and dropout; afterwards modes and random state are what they were before."""
        before = random.get_state()
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            with no_grad():
                yield
        finally:
            for module, training in modes:
                module.training = training
            random.set_state(before)

    def _progress_bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=self.config.steps, initial=self.step, unit="step", disable=not self.progress)

    def _load_model(self, checkpoint: Path) -> None:
        if hasattr(self.model, "save_pretrained"):
            loaded = type(self.model).from_pretrained(checkpoint)  # type: ignore[attr-defined]
            self.model.load_state_dict(loaded.state_dict())
            return
        from safetensors.numpy import load_file

        self.model.load_state_dict(load_file(checkpoint / "model.safetensors"))

    def _check_settings(self, checkpoint: Path, saved: dict[str, Any]) -> None:
        mine = self.config.to_dict()
        different = [name for name in mine if name not in FREE_SETTINGS and mine[name] != saved.get(name)]
        if different:
            pairs = ", ".join(f"{name} {saved.get(name)!r} (now {mine[name]!r})" for name in different)
            raise CheckpointError(
                f"{checkpoint} was trained with {pairs}; resume with the settings of that run"
            )


def _due(step: int, interval: int, last: bool = False) -> bool:
    """Whether something with this interval happens after this step; 0 is never."""
    return interval > 0 and (step % interval == 0 or last)
