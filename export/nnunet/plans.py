"""What `plans.json` says of one configuration; what cannot be carried is refused by name.

nnU-Net's arrays have the axes k, j, i of the stored file, which `transpose_forward` brings into the
order of the network. Here both are folded away: `Plans.along_file` gives i, j, k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, model_validator

from vol3dseg.errors import ModelError, some_of
from vol3dseg.export.nnunet.nnunet_labels import read_object
from vol3dseg.schema import Amount, Count, Millimetres, Real, Side, problems

FILE_NAME = "plans.json"
Orientation = Literal["stored", "RAS"]
_READERS: dict[str, Orientation] = {
    "SimpleITKIO": "stored",
    "NibabelIO": "stored",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
SCHEMES = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
ONLY_ITS_OWN = "train it with what nnU-Net itself brings, or run it with nnU-Net"
_BY = ("by_modality", "per_channel")  # of older plans, and of newer ones
_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)
_IGNORING = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

AxisNumber = Annotated[int, Strict(), Field(ge=0, le=2)]
SplineOrder = Annotated[int, Strict(), Field(ge=0, le=5)]


class Intensities(BaseModel):
    """Of the foreground of all training cases, in one channel."""

    model_config = _IGNORING

    mean: Real
    std: Amount
    percentile_00_5: Real
    percentile_99_5: Real


class ResamplingOptions(BaseModel):
    """Arguments of a resampling function; what is not among them is unknown to nnU-Net too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    is_seg: bool = False
    order: SplineOrder = 3
    order_z: SplineOrder = 0
    force_separate_z: bool | None = None
    separate_z_anisotropy_threshold: Amount = 3.0
    num_threads: Count = 4
    device: str = "cpu"
    memefficient_seg_resampling: bool = False
    mode: str = "linear"
    aniso_axis_mode: str = "nearest-exact"


class _Configuration(BaseModel):
    """What is needed of one configuration, after `inherits_from`; the network's part aside."""

    model_config = _IGNORING

    preprocessor_name: str
    patch_size: tuple[Side, ...]
    spacing: tuple[Millimetres, ...]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str
    resampling_fn_data_kwargs: ResamplingOptions
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: ResamplingOptions
    previous_stage: str | None = None


class _Content(BaseModel):
    """What is needed of the whole file."""

    model_config = _IGNORING

    dataset_name: str
    plans_name: str = ""
    image_reader_writer: str
    transpose_forward: tuple[AxisNumber, AxisNumber, AxisNumber]
    label_manager: str = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, Intensities]

    @model_validator(mode="before")
    @classmethod
    def _older(cls, content: Any) -> Any:
        older, newer = (f"foreground_intensity_properties_{each}" for each in _BY)
        if isinstance(content, dict) and newer not in content and older in content:
            return {**content, newer: content[older]}
        return content


class Resampling(NamedTuple):
    """How images, or logits, change their grid."""

    function: str
    options: ResamplingOptions


@dataclass(frozen=True, slots=True)
class Plans:
    """One configuration of nnU-Net's plans, checked; lengths are along the network's axes."""

    path: Path
    dataset: str
    name: str
    configuration: str
    reader: str
    transpose_forward: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    patch_size: tuple[int, ...]
    schemes: tuple[str, ...]  # of each channel
    masked: tuple[bool, ...]
    intensities: tuple[Intensities | None, ...]
    images: Resampling
    outputs: Resampling
    network: Mapping[str, Any]  # all that is said of this configuration, for its architecture

    @property
    def orientation(self) -> Orientation:
        """Which axes the network sees: those of the file as it is stored, or the closest to RAS."""
        return _READERS[self.reader]

    @property
    def file_axes(self) -> tuple[int, int, int]:
        """The axis of the file, of i, j, k, that each axis of the network is."""
        first, second, third = (2 - axis for axis in self.transpose_forward)
        return first, second, third

    def along_file(self, values: Sequence[_T]) -> tuple[_T, _T, _T]:
        """Return what is given along the network's axes along i, j, k."""
        i, j, k = (values[self.file_axes.index(axis)] for axis in range(3))
        return i, j, k


def read_plans(path: Path, configuration: str, channels: int) -> Plans:
    """Read plans.json of a model of so many channels; ModelError says what cannot be carried."""
    raw = read_object(path)
    if not isinstance(raw.get("configurations"), dict):
        raise ModelError("has no configurations", where=path, expected="plans of nnU-Net v2")
    content = _parsed(_Content, raw, path)
    merged = _with_inherited(raw, configuration, path)
    place = f"{path}: configuration {configuration}"
    _refuse_other_tasks(merged, place)
    own = _parsed(_Configuration, merged, place)
    _refuse_foreign_parts(content, own, path)
    _require_each(own, channels, place)
    found = content.foreground_intensity_properties_per_channel
    return Plans(
        path=path,
        dataset=content.dataset_name,
        name=content.plans_name,
        configuration=configuration,
        reader=content.image_reader_writer,
        transpose_forward=content.transpose_forward,
        spacing_mm=own.spacing,
        patch_size=own.patch_size,
        schemes=own.normalization_schemes,
        masked=own.use_mask_for_norm,
        intensities=tuple(found.get(str(number)) for number in range(channels)),
        images=Resampling(own.resampling_fn_data, own.resampling_fn_data_kwargs),
        outputs=Resampling(own.resampling_fn_probabilities, own.resampling_fn_probabilities_kwargs),
        network=merged,
    )


def _parsed(model: type[_M], raw: dict[str, Any], where: object) -> _M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        found = problems(error, model)
        raise ModelError(found, where=where, expected="plans of nnU-Net v2") from error


def _with_inherited(raw: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return a configuration over those that it inherits from."""
    known, wanted = raw["configurations"], name
    merged: dict[str, Any] = {}
    visited: list[Any] = []
    while wanted is not None:
        if wanted in visited:
            chain = " -> ".join([*visited, wanted])
            raise ModelError(f"configurations inherit in a circle: {chain}", where=path)
        if not isinstance(known.get(wanted), dict):
            raise ModelError(
                f"has no configuration {wanted!r}",
                where=path,
                expected=f"one of {some_of(sorted(known))}",
                remedy="choose one with --configuration" if wanted == name else "",
            )
        visited.append(wanted)
        merged = {**known[wanted], **merged}
        wanted = known[wanted].get("inherits_from")
        if wanted is not None and not isinstance(wanted, str):
            raise ModelError(f"inherits_from of {visited[-1]} is no name", where=path)
    return merged


def _refuse_other_tasks(merged: Mapping[str, Any], place: str) -> None:
    patch, before = merged.get("patch_size"), merged.get("previous_stage")
    if before is not None:
        raise ModelError(
            f"a stage of a cascade, which also takes the label map of {before!s:.60}",
            where=place,
            expected="one network from images alone",
            remedy="adopt 3d_fullres or 3d_lowres; cascades need a graph of two networks",
        )
    if isinstance(patch, list) and len(patch) == 2:
        raise ModelError(
            "a 2d network, slice by slice",
            where=place,
            expected="a 3d one",
            remedy="adopt 3d_fullres or 3d_lowres of the same dataset",
        )


def _refuse_foreign_parts(content: _Content, own: _Configuration, path: Path) -> None:
    """Refuse code that plans name and that nnU-Net does not bring."""
    parts = [
        ("image reader", content.image_reader_writer, tuple(_READERS)),
        ("label manager", content.label_manager, ("LabelManager",)),
        ("preprocessor", own.preprocessor_name, ("DefaultPreprocessor",)),
        *(("normalisation", scheme, SCHEMES) for scheme in own.normalization_schemes),
    ]
    for what, name, known in parts:
        if name not in known:
            expected = f"{'one of ' if len(known) > 1 else ''}{', '.join(known)}"
            found = f"names the {what} {name!r:.80}"
            raise ModelError(found, where=path, expected=expected, remedy=ONLY_ITS_OWN)
    if sorted(content.transpose_forward) != [0, 1, 2]:
        found = f"transpose_forward is {list(content.transpose_forward)}"
        raise ModelError(found, where=path, expected="the axes 0, 1 and 2 in some order")


def _require_each(own: _Configuration, channels: int, place: str) -> None:
    """Refuse lists that are not as long as there are axes, or channels."""
    lengths = [
        ("patch_size", own.patch_size, 3),
        ("spacing", own.spacing, 3),
        ("normalization_schemes", own.normalization_schemes, channels),
        ("use_mask_for_norm", own.use_mask_for_norm, channels),
    ]
    for name, values, count in lengths:
        if len(values) != count:
            found = f"{name} has {len(values)} entries"
            what = "one for each axis" if count == 3 != channels else "one for each channel"
            raise ModelError(found, where=place, expected=f"{count}, {what}")
