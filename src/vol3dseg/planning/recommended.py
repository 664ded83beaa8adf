"""How plans train where data and machine do not decide: one list, each with its reason."""

from typing import Any

from vol3dseg.planning.choices import Choice

_REASONS: dict[str, tuple[Any, str]] = {
    "model.norm": (
        "batch",
        "outputs depend on their receptive field alone, so that tiles of any size give what one "
        "pass over the volume would",
    ),
    "training.loss": ("dice_cross_entropy", "the sum that nnU-Net trains with"),
    "training.optimizer": ("adamw", "as in the preset hippocampus"),
    "training.learning_rate": (1.4e-3, "as in the preset hippocampus"),
    "training.schedule": (
        "cosine",
        "falls to 0 with the last epoch, so neither plateau nor early stopping is needed",
    ),
    "training.ema": (0.99, "the mean of about the last hundred changes of the weights is deployed"),
    "training.grow_patch": (
        {"start": 0.4, "stages": 4, "epochs": 0.75},
        "small patches first: twice as many steps in the same time (docs/training.md)",
    ),
    "training.clip_norm": (1.0, "a step that a bad batch makes stays a small one"),
    "training.model_checkpoint": (
        False,
        "the last epoch is kept: the learning rate is 0 by then, and nothing is chosen by the "
        "validation cases, which judge it",
    ),
}


def recommended(section: str) -> list[Choice]:
    """Return the choices of a section, such as "training"."""
    return [
        Choice(key, value, why)
        for key, (value, why) in _REASONS.items()
        if key.partition(".")[0] == section
    ]
