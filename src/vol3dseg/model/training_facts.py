"""Where the weights of a network that was trained here come from."""

from typing import Literal

from vol3dseg.config import VOLUME_DICE, Measure
from vol3dseg.schema import Count, Frozen, Positive, Real, Seed, Share


class Parent(Frozen):
    """The model that a training started from.

    Attributes
    ----------
    name : str
        Of its file or run folder, which may be elsewhere by now.
    sha256 : str
        Of the ONNX file, or of the run's checkpoint.
    data_fingerprint : str or None
        Of what it had learned from itself; None where it does not say.
    anew : tuple of str
        Layers that none of its weights fitted.
    """

    name: str
    sha256: str
    data_fingerprint: str | None
    anew: tuple[str, ...] = ()


class TrainingFacts(Frozen):
    """Where the weights of a network come from.

    Attributes
    ----------
    data_fingerprint : str
        SHA-256 over names and contents of the prepared training cases.
    cases : mapping from part to number of cases
    checkpoint : "best" or "last"
        The best epoch, or the last one (no `model_checkpoint` in the config, or nothing to judge
        by).
    chosen_by : "val_loss", "val_volume_dice" or None
        What made it the best: the lowest loss, or the highest Dice of whole volumes. None of the
        last.
    epoch : int
        Of the checkpoint, counted from 1.
    epochs : int
        That were trained.
    val_loss : float or None
        Of the checkpoint, on the fixed list of validation patches.
    val_volume_dice : float or None
        Of the checkpoint: mean foreground Dice of whole volumes, of the validation cases that were
        segmented while training. None where none were after that epoch.
    seed : int
    loss, optimizer : str
    batch_size : int
        Patches between two updates of the weights.
    micro_batch : int
        Patches that went through the network at once, whose gradients were added up.
    parent : Parent or None
        None where the network began with random weights.
    """

    data_fingerprint: str
    cases: dict[str, Count]
    checkpoint: Literal["best", "last"]
    epoch: Positive
    epochs: Positive
    val_loss: Real | None
    val_volume_dice: Share | None = None
    chosen_by: Measure | None = None
    seed: Seed
    loss: str
    optimizer: str
    batch_size: Positive
    micro_batch: Positive
    parent: Parent | None = None

    @property
    def checkpoint_in_words(self) -> str:
        """Which checkpoint it is, with what chose it where that was not `val_loss`: "best"."""
        by_volumes = self.chosen_by == VOLUME_DICE
        return self.checkpoint + " by whole volumes" * by_volumes
