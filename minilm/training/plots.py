"""A picture of a run: training and validation loss above, learning rate below, over the same steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from minilm.viz import Figure

__all__ = ["plot_training"]


def plot_training(
    records: list[dict[str, Any]],
    path: str | Path | None = None,
    title: str = "",
    baselines: dict[str, float] | None = None,
) -> Figure:
    """Draw the losses and the learning rate of a run.

    Args:
        records: of a `TrainingLog`, or from `read_log`.
        path: where to write the picture (PNG, or what its suffix says); None only returns it.
        title: above the picture.
        baselines: losses in nats per token to stand beside, by name, as dashed lines.

    Raises:
        ValueError: there is no training record to draw.
    """
    from minilm.viz import COLOURS, Figure  # here, so that training does not load matplotlib before it is needed

    blue, red, green = COLOURS["blue"], COLOURS["red"], COLOURS["green"]
    training = [record for record in records if "loss" in record]
    validation = [record for record in records if "validation_loss" in record]
    if not training:
        raise ValueError("there is no record of training to draw; expected records with a 'loss'")
    steps = [record["step"] for record in training]
    losses = np.array([record["loss"] for record in training])

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot(steps, losses, color=blue, alpha=0.3, linewidth=1, label="_")
    smooth = _smooth(losses)
    label = "training" if np.array_equal(smooth, losses) else "training (smoothed)"
    upper.plot(steps, smooth, color=blue, linewidth=2, label=label)
    if validation:
        upper.plot(
            [record["step"] for record in validation],
            [record["validation_loss"] for record in validation],
            color=red, marker="o", markersize=5, linewidth=1.5, label="validation",
        )  # fmt: skip
    for index, (name, loss) in enumerate((baselines or {}).items()):
        upper.axhline(loss, color="0.3", linestyle=("--", ":", "-.")[index % 3], linewidth=1.2)
        upper.annotate(
            f"{name} {loss:.2f}", (1, loss), xycoords=("axes fraction", "data"), xytext=(-4, 3),
            textcoords="offset points", ha="right", fontsize=9, color="0.3",
        )  # fmt: skip
    upper.set_ylabel("loss (nats per token)")
    upper.legend(frameon=False)
    lower.plot(steps, [record["learning_rate"] for record in training], color=green, linewidth=2)
    lower.set_ylabel("learning rate")
    lower.set_ylim(bottom=0)
    lower.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    lower.set_xlabel("step")
    for axes in (upper, lower):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    return figure


def _smooth(losses: np.ndarray) -> np.ndarray:
    """Return a centred running mean over about a thirtieth of the run; shorter towards both ends."""
    half = len(losses) // 60
    return np.array([losses[max(0, i - half) : i + half + 1].mean() for i in range(len(losses))])
