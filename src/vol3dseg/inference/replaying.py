"""Segment the small case that travels in a model file, and compare with the labels beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vol3dseg.errors import ModelError
from vol3dseg.inference import Device
from vol3dseg.inference.loading import load_predictor
from vol3dseg.model.adopted import most_differing
from vol3dseg.model.model_file import read_model
from vol3dseg.model.replay_case import METADATA_KEY, ReplayCase
from vol3dseg.model.signing_keys import Trusted, load_keys
from vol3dseg.schema import parse_json


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of the case on this machine."""

    said_by: str  # in words, whose labels it is compared with
    provider: str
    voxels: int
    differing: int

    @property
    def agrees(self) -> bool:
        """Whether no more voxels differ than rounding explains."""
        return self.differing <= most_differing(self.voxels)

    def __str__(self) -> str:
        found = f"{self.differing} of {self.voxels} voxels differ from what {self.said_by}"
        return f"{found} ({self.provider})"


def replay(path: Path, device: Device = "auto", trusted: Trusted | None = None) -> Replayed:
    """Replay the case of a model file; ModelError where it carries none, or is not trusted."""
    model = read_model(path, keys=None if trusted is None else load_keys(trusted))
    if model.replay is None:
        raise ModelError(
            "carries no case to replay",
            where=path,
            expected="a model that was adopted with --verify or --against",
            remedy="adopt it again with one of them",
        )
    case = parse_json(
        ReplayCase,
        model.replay,
        f"{path}: metadata {METADATA_KEY!r}",
        ModelError,
        expected="what vol3dseg adopt has packed",
        remedy="adopt the model again",
    )
    manifest = model.manifest
    try:
        volume = case.volume(manifest.recipe.modalities)
        wanted = case.segmentation(manifest.labels)
    except ModelError as error:
        raise error.at(path) from error
    predictor = load_predictor(path, device, postprocess=False, trusted=trusted)
    found = predictor(volume).segmentation.array
    framework = manifest.proof.framework if manifest.proof else "its framework"
    said_by = f"{framework} says" if case.said_by == "framework" else "it gave when adopted"
    return Replayed(
        said_by, predictor.origin.provider, found.size, int(np.count_nonzero(found != wanted.array))
    )
