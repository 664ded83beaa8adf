"""Where a network comes from that another framework has trained, and the proof that it agrees."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from vol3dseg.schema import Count, Frozen, Name, Once, Positive, Share

_PER_MILLION = 10  # voxels that may differ
_FEW = 3  # that may differ of any number
_ENDS = {"L": "x", "R": "x", "A": "y", "P": "y", "I": "z", "S": "z"}


def most_differing(voxels: int) -> int:
    """Return how many of so many voxels may have another label."""
    return max(_FEW, voxels * _PER_MILLION // 10**6)


def _directions(codes: str) -> str:
    if len(codes) != 3 or {_ENDS.get(letter) for letter in codes} != {"x", "y", "z"}:
        raise ValueError(f"{codes[:20]!r} are no axes, expected three letters such as LPS")
    return codes


AxisCodes = Annotated[str, AfterValidator(_directions)]


class AdoptedFacts(Frozen):
    """Where the weights of a network come from that was trained elsewhere.

    Attributes
    ----------
    framework : str
        "nnU-Net", "MONAI".
    dataset, plans, configuration, trainer, fold : str
        As the framework calls them; empty where it has no such thing.
    checkpoint : str
        The name of its file.
    epoch : int or None
        Epochs that the weights had seen.
    sha256 : str
        Of the checkpoint's file.
    """

    framework: Name
    dataset: str = ""
    plans: str = ""
    configuration: str = ""
    trainer: str = ""
    fold: str = ""
    checkpoint: Name
    epoch: Count | None = None
    sha256: str


class Proof(Frozen):
    """How far the deployed model agrees with the framework that trained it, on whole scans.

    Attributes
    ----------
    against : "run" or "label maps"
        The framework's own predictor, run for the purpose; or label maps that it had written.
    framework : str
    cases, voxels, differing : int
        Scans, all their voxels, and those with another label.
    dice : mapping from class or region to float or None
        Between the two, over all cases; None where neither has it.
    max_abs_difference : float or None
        Of probabilities; None where those of the framework are not known.
    mirror : tuple of "i", "j", "k"
        Axes that views were mirrored along.
    provider : str
        Runtime, device and precision that the deployed model ran on.
    versions : mapping from package to version
    """

    against: Literal["run", "label maps"]
    framework: Name
    cases: Positive
    voxels: Positive
    differing: Count
    dice: dict[str, Share | None]
    max_abs_difference: Share | None = None
    mirror: Annotated[tuple[Literal["i", "j", "k"], ...], Once] = ()
    provider: str
    versions: dict[str, str]

    @property
    def per_million(self) -> float:
        """Voxels of a million that differ."""
        return self.differing / self.voxels * 1e6

    @property
    def in_words(self) -> str:
        """What agrees, for people."""
        noun = "case" if self.cases == 1 else "cases"
        said = (
            f"{self.differing} of {self.voxels} voxels of {self.cases} {noun} differ "
            f"({self.per_million:.2g} in a million)"
        )
        if self.max_abs_difference is not None:
            said += f", up to {self.max_abs_difference:.1e} in probability"
        return said
