"""A bundle of MONAI in its folder: config, metadata and weights; none of them is run."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, Strict

from vol3dseg.errors import FileFormatError, ModelError, in_memory, reading
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.export.torch_files.state import TorchFile
from vol3dseg.schema import Name, read_json

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_METADATA, _WEIGHTS, _SCRIPT = "metadata.json", "model.pt", "model.ts"
_EXPECTED = "a folder with configs/inference.json, configs/metadata.json and models/model.pt"
_WHERE = ("model", "state_dict", "network", "net")  # weights lie, beside an optimizer's
_STATE = "the state_dict of a network, as torch.save writes it"
_Channels = dict[str, Name]
_LOOSE = ConfigDict(frozen=True, extra="ignore")  # of metadata only some is needed


class _End(BaseModel):
    model_config = _LOOSE

    num_channels: Annotated[int, Strict(), Field(ge=1, le=255)] | None = None
    channel_def: _Channels = Field(min_length=1, max_length=255)


class _Inputs(BaseModel):
    model_config = _LOOSE

    image: _End


class _Outputs(BaseModel):
    model_config = _LOOSE

    pred: _End


class _Format(BaseModel):
    model_config = _LOOSE

    inputs: _Inputs
    outputs: _Outputs


class Metadata(BaseModel):
    """Names of channels, and of the bundle."""

    model_config = _LOOSE

    name: str = ""
    version: str = ""
    network_data_format: _Format

    @property
    def modalities(self) -> Sequence[str]:
        """Of the image, in order."""
        return _in_order(self.network_data_format.inputs.image)

    @property
    def channels(self) -> Sequence[str]:
        """Of the network's output, in order."""
        return _in_order(self.network_data_format.outputs.pred)


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says, and its weights by name."""

    path: Path
    config: BundleConfig
    metadata: Metadata
    weights: Path
    state: Mapping[str, NDArray[Any]]
    sha256: str  # of the file of weights


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    ModelError
        It is none, or one whose network is code.
    FileFormatError
        Its weights are damaged, or hold what is not on the closed list.
    """
    configs, models = folder / "configs", folder / "models"
    config = next((configs / n for n in _CONFIGS if (configs / n).is_file()), configs / _CONFIGS[0])
    weights = models / _WEIGHTS
    if not config.is_file():
        raise ModelError(f"has no configs/{_CONFIGS[0]}", where=folder, expected=_EXPECTED)
    if not weights.is_file():
        script = (models / _SCRIPT).is_file()
        found = f"has {_SCRIPT}, which is code, and no {_WEIGHTS}" if script else f"no {_WEIGHTS}"
        remedy = "save the network's state_dict as models/model.pt" if script else ""
        raise ModelError(found, where=models, expected=_EXPECTED, remedy=remedy)
    metadata = read_json(
        Metadata, configs / _METADATA, ModelError,
        expected="metadata of a bundle that names its channels (network_data_format)",
        remedy="name them in metadata.json",
    )  # fmt: skip
    for end in (
        metadata.network_data_format.inputs.image,
        metadata.network_data_format.outputs.pred,
    ):
        if sorted(end.channel_def) != sorted(map(str, range(len(end.channel_def)))):
            raise ModelError(
                f"channel_def numbers {', '.join(sorted(end.channel_def))}",
                where=configs / _METADATA,
                expected="0, 1, 2, ... without a gap",
            )
    state, sha256 = _read_state(weights)
    return Bundle(folder, BundleConfig(config), metadata, weights, state, sha256)


def _in_order(end: _End) -> Sequence[str]:
    return [end.channel_def[str(number)] for number in range(len(end.channel_def))]


def _read_state(path: Path) -> tuple[Mapping[str, NDArray[Any]], str]:
    with (
        reading(path, FileFormatError, expected=_STATE),
        path.open("rb") as file,
        in_memory("its weights", path),
    ):
        try:
            content = TorchFile(file, _STATE)
            said = content.said
            for name in _WHERE:
                if isinstance(said, dict) and isinstance(said.get(name), dict):
                    said = said[name]
                    break
            if not isinstance(said, dict):
                raise FileFormatError(f"holds a {type(said).__name__}", expected=_STATE)
            state = content.state(said)
        except FileFormatError as error:
            raise error.at(path) from error.__cause__
        file.seek(0)
        return state, hashlib.file_digest(file, "sha256").hexdigest()
