"""What int8 costs: both graphs on whole validation volumes, through the predictor that is deployed.

Runtimes fuse the nodes of a quantised graph in ways of their own, and not all of them are right
(`vol3dseg.export.quantise`), so both graphs are judged where int8 is worth its while: in OpenVINO,
if it is installed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from vol3dseg.errors import ParityError, RunError
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.export.quantise import quantise
from vol3dseg.inference.loading import make_predictor, open_session
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.openvino_backend import is_installed
from vol3dseg.inference.runtimes.session import Device
from vol3dseg.model.manifest import Manifest, Quantisation
from vol3dseg.model.model_file import ModelFile
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.space.box import Box
from vol3dseg.space.labels import Segmentation
from vol3dseg.space.volume import Volume

LARGEST_DROP = 0.002


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network loses against another one on whole volumes.

    Parameters
    ----------
    cases : int
    dice : float or None
        Mean over foreground classes of their mean Dice over cases; None if no case has any.
    dice_drop : float
        By how much that is below the other network's; NaN if it is None for either.
    label_agreement : float
        Share of voxels with the same label from both.
    """

    cases: int
    dice: float | None
    dice_drop: float
    label_agreement: float


def quantise_proven(
    plain: onnx.ModelProto,
    content: bytes,
    manifest: Manifest,
    patches: NDArray[np.float32],
    cases: Mapping[str, StoredCase],
    where: str,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[onnx.ModelProto, Manifest]:
    """Quantise a network and judge the result.

    Parameters
    ----------
    plain : onnx.ModelProto
        The network with instance norms as single nodes.
    content : bytes
        The float32 graph that was proven to equal the trained model.
    manifest : Manifest
    patches : (n, i, j, k, c) array of float32
        Of training cases; ranges of activations are found on them.
    cases : mapping from case to StoredCase
        The validation part.
    where : str
        The file to be written, for messages.
    progress : callable
        Called with a line of text after every ten cases.

    Returns
    -------
    onnx.ModelProto
        Without metadata.
    Manifest
        With `quantisation`.

    Raises
    ------
    RunError
        There are no validation cases, or none has a class of the foreground.
    ParityError
        Mean Dice drops by more than 0.002.
    """
    if not cases:
        raise RunError(
            f"{where}: not written: int8 is judged on the validation part, and this run has none; "
            "export it without --int8"
        )
    quantised = quantise(plain, patches)
    device: Device = "openvino" if is_installed() else "cpu"
    file = ModelFile(content, manifest, sha256="")  # one plan for both
    session = open_session(quantised.SerializeToString(), device)
    reference = make_predictor(file, open_session(content, device))
    cost = measure_cost(reference, make_predictor(file, session), cases, progress)
    if cost.dice is None:
        raise RunError(
            f"{where}: not written: int8 is judged by Dice, but none of the {cost.cases} "
            "validation cases has a class of the foreground; export the run without --int8"
        )
    if not cost.dice_drop <= LARGEST_DROP:
        raise ParityError(
            f"{where}: not written: int8 lowers mean Dice on {cost.cases} validation cases by "
            f"{cost.dice_drop:.4f}, to {cost.dice:.4f} ({session.provider}); expected at most "
            f"{LARGEST_DROP}; export the run without --int8"
        )
    facts = Quantisation(
        precision="int8",
        patches=len(patches),
        provider=session.provider,
        cases=cost.cases,
        mean_dice=cost.dice,
        dice_drop=cost.dice_drop,
        tolerance=LARGEST_DROP,
        label_agreement=cost.label_agreement,
    )
    return quantised, manifest.model_copy(update={"quantisation": facts})


def measure_cost(
    reference: Predictor,
    judged: Predictor,
    cases: Mapping[str, StoredCase],
    progress: Callable[[str], None] = lambda line: None,
) -> Cost:
    """Segment whole prepared volumes with two networks, and compare what they say.

    Parameters
    ----------
    reference, judged : Predictor
        Of one manifest.
    cases : mapping from case to StoredCase
        At least one.
    progress : callable
        Called with a line of text after every ten cases.
    """
    scores: tuple[list[CaseScores], list[CaseScores]] = [], []
    equal = voxels = 0
    for number, (name, case) in enumerate(cases.items(), start=1):
        image, label = case.read(Box.whole(case.shape))
        volume = Volume(image, case.geometry, case.modalities)
        truth = Segmentation(label, case.geometry, reference.manifest.labels)
        before, after = (
            each.segment(volume, case.geometry).segmentation for each in (reference, judged)
        )
        scores[0].append(evaluate_case(name, truth, before))
        scores[1].append(evaluate_case(name, truth, after))
        equal += int(np.count_nonzero(before.array == after.array))
        voxels += label.size
        if number % 10 == 0 or number == len(cases):
            progress(f"int8 against float32 on whole volumes {number}/{len(cases)}")
    theirs, ours = (summarise(part).mean_foreground_dice for part in scores)
    drop = math.nan if theirs is None or ours is None else theirs - ours
    return Cost(len(cases), ours, drop, equal / voxels)
