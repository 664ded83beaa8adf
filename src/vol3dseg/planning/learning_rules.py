"""Rules for what is learned from: parts of the data, sampling, epochs."""

import math
from dataclasses import dataclass

from vol3dseg.config import Config
from vol3dseg.planning.choices import Choice
from vol3dseg.planning.fingerprint import Fingerprint
from vol3dseg.planning.workload import Speed, Workload, growth_share

FEW = 20  # subjects: of fewer all are learned from, and folds judge them
FOLDS = 5
MANY = 50  # subjects
WHOLE = 0.75  # share of the median scan that a patch covers, from which on it is drawn anywhere
COMMON = 0.1  # share of voxels that have a class, from which on a third of draws is enough
SMALL_PIECE = 64  # voxels
MOST_EPOCHS = 1000
LEAST_EPOCHS = 20  # that the steps there is time for are divided into, at least
LEAST_STEPS = 20  # of an epoch
MOST_STEPS = 250_000  # in all: nnU-Net's 1000 epochs of 250
# About twice as often as else; where hundreds of scans differ by themselves it only slows things.
_STRONG: dict[str, object] = {
    "rotation": 0.5,
    "scaling": 0.5,
    "elastic": 0.2,
    "blur": 0.2,
    "low_resolution": 0.25,
    "noise": 0.2,
    "brightness": 0.3,
    "contrast": 0.3,
    "gamma": 0.5,
    "inverted_gamma": 0.2,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """How many subjects go where."""

    training: int
    validation: int
    share: float
    why: str


def choose_parts(subjects: int) -> Parts:
    """Keep a tenth for validation, a fifth where there are fewer than 50; none of less than 20."""
    if subjects == 1:
        why = "1 subject is learned from: nothing says how good the model is on others"
        return Parts(subjects, 0, 0.0, why)
    if subjects < FEW:
        why = (
            f"{subjects} subjects are fewer than {FEW}: all are learned from, and vol3dseg "
            "cross-validate judges each by a model that has not seen it"
        )
        return Parts(subjects, 0, 0.0, why)
    share = 0.1 if subjects >= MANY else 0.2
    validation = math.ceil(subjects * share - 1e-9)
    why = (
        f"{validation} of {subjects} subjects: a tenth of {MANY} or more, else a fifth. Nothing is "
        "chosen by them, so they judge the model"
    )
    return Parts(subjects - validation, validation, share, why)


def choose_folds(subjects: int) -> list[Choice]:
    """Return how many folds a cross-validation has, where there are fewer subjects than usual."""
    if not 1 < subjects < FOLDS:
        return []
    why = f"one for each of {subjects} subjects; {FOLDS} of more"
    return [Choice("split.folds", subjects, why)]


def few_in_words(subjects: int) -> list[str]:
    """Return what is to be expected where there are few subjects; nothing where there are more."""
    if subjects >= FEW:
        return []
    named = "1 subject is" if subjects == 1 else f"{subjects} subjects are"
    return [
        f"{named} few: on others the model will be less sure than it is on these, and a mean over "
        "so few says little. What helps most is more subjects, then a trained model to start from "
        "(train --from MODEL -c fine-tune)"
    ]


def choose_sampling(found: Fingerprint, covered: float) -> Choice:
    """Return how many patches are drawn for a class; `covered` is what one shows of a scan."""
    usual = found.usual_piece
    share = found.foreground
    facts = (
        f"of {len(found.pieces)} connected pieces, those of at most {usual} voxels hold half of "
        "what is labelled"
    )
    if covered >= WHOLE:
        value, why = (
            0.0,
            (
                f"a patch shows {100 * min(covered, 1):.0f} % of the median scan, at least "
                f"{100 * WHOLE:.0f} %: it holds what there is, wherever it lies"
            ),
        )
    elif usual < SMALL_PIECE:
        value, why = 0.8, f"{facts}; below {SMALL_PIECE} most patches are drawn for them"
    elif share > COMMON:
        value, why = (
            0.33,
            (
                f"{100 * share:.0f} % of the voxels have a class, more than "
                f"{100 * COMMON:.0f} %: a third of the patches is drawn for one "
                f"(nnU-Net's share); {facts}"
            ),
        )
    else:
        value, why = (
            0.67,
            (
                f"{100 * share:.2g} % of the voxels have a class, at most "
                f"{100 * COMMON:.0f} %: two thirds of the patches are drawn for one; {facts}"
            ),
        )
    return Choice("training.foreground", value, why)


def choose_augment(covered: float, subjects: int) -> Choice:
    """Return what is done to patches; `covered` is what one shows of a scan."""
    chosen: dict[str, object] = {}
    why = (
        "nnU-Net's set, without flips: nothing in files says that left and right may be swapped. "
        "Where they may, add flip_axes: [i]"
    )
    if subjects < FEW:
        chosen |= _STRONG
        why += f". More often, and bent as well, since {subjects} subjects show little that varies"
    if covered < WHOLE:
        return Choice("training.augment", chosen, why)
    why += (
        f". A patch shows at least {100 * WHOLE:.0f} % of the median scan: rotations and sizes are "
        "changed less, or the ends of scans would show, and more often (as in the preset "
        "hippocampus)"
    )
    gentle = {"rotation": 0.5, "scaling": 0.5, "rotate_degrees": 15, "scale": [0.85, 1.2]}
    return Choice("training.augment", chosen | gentle, why)


def choose_length(config: Config, work: Workload, speed: Speed, seconds: float) -> list[Choice]:
    """Return epochs, and steps of an epoch where it would be too short or too long."""
    step_s = work.step_s(config, speed) * growth_share(config)
    natural = work.steps(config)
    affordable = max(0.0, seconds - work.around_s(config, speed)) / step_s
    total = max(1, min(MOST_STEPS, int(affordable)))
    steps = max(min(natural, max(LEAST_STEPS, total // LEAST_EPOCHS)), min(LEAST_STEPS, total))
    choices = []
    facts = f"{work.pieces(config)} patches tile the training cases, {natural} steps"
    if steps != natural:
        choices.append(
            Choice(
                "training.steps_per_epoch",
                steps,
                f"{facts}; at least {LEAST_STEPS}, and so few that there are {LEAST_EPOCHS} epochs",
            )
        )
        training = config.training.model_copy(update={"steps_per_epoch": steps})
        config = config.model_copy(update={"training": training})
    each_s = work.epoch_s(config, speed)
    left = seconds - work.around_s(config, speed)
    epochs = max(1, min(MOST_EPOCHS, math.ceil(MOST_STEPS / steps), int(left / each_s)))
    why = (
        f"{seconds / 60:.4g} minutes, of which {work.around_s(config, speed):.0f} s go before the "
        f"first epoch and after the last; an epoch is {steps} steps of {step_s:.3g} s"
        + " in the mean" * (config.training.grow_patch is not None)
        + (f" and {each_s - steps * step_s:.2g} s of validation" if work.validation else "")
        + f" ({speed.how}). At most {MOST_EPOCHS}"
    )
    return [Choice("training.epochs", epochs, why), *choices]
