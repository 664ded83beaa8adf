"""A bundle's preprocessing as steps of a recipe: a closed list of transforms, each by its name."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, Strict, ValidationError

from vol3dseg.export.monai.arguments import Component, component, parsed
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.recipe.monai_steps import (
    CropToPositive,
    MonaiStep,
    Resample,
    ScaleOwnRange,
    ScaleRange,
    Standardise,
    TurnToRAS,
)
from vol3dseg.schema import Frozen, problems, quoted

IMAGE = "image"
_PER_KEY = {"mode", "padding_mode", "align_corners", "dtype", "data_type"}


def _three(value: Any) -> Any:
    return [value] * 3 if isinstance(value, int | float) else value


def _several(value: Any) -> Any:
    return [value] if isinstance(value, int | float) else [] if value is None else value


_Number = Annotated[float, Strict(), Field(ge=-1e30, le=1e30)]
_Count = Annotated[int, Strict(), Field(ge=0, le=2**15)]
_Numbers = Annotated[tuple[_Number, ...], BeforeValidator(_several)]
_Lengths = Annotated[tuple[_Number, _Number, _Number], BeforeValidator(_three)]
_Counts = Annotated[tuple[_Count, _Count, _Count], BeforeValidator(_three)]
_Float = Literal["float32", None]
_NotLazy = Literal[False, None]


class _Load(Frozen):
    reader: Literal["NibabelReader", "ITKReader", None] = None
    image_only: bool = True
    ensure_channel_first: bool = False
    simple_keys: bool = False
    dtype: _Float = "float32"


class _ChannelFirst(Frozen):
    channel_dim: Literal[0, "no_channel", None] = None
    strict_check: bool = True


class _Typed(Frozen):
    data_type: Literal["tensor"] = "tensor"
    dtype: _Float = None


class _Orientation(Frozen):
    axcodes: Literal["RAS"]
    labels: None = None
    lazy: _NotLazy = False


class _Spacing(Frozen):
    pixdim: _Lengths
    mode: Literal["bilinear", 1] = "bilinear"
    padding_mode: Literal["border"] = "border"
    align_corners: Literal[False, None] = False
    diagonal: Literal[False] = False
    dtype: Literal["float64", "float32", None] = "float64"
    scale_extent: Literal[False] = False
    recompute_affine: Literal[False] = False
    lazy: _NotLazy = False


class _Range(Frozen):
    a_min: _Number
    a_max: _Number
    b_min: _Number | None = None
    b_max: _Number | None = None
    clip: bool = False
    dtype: _Float = "float32"


class _Scale(Frozen):
    minv: _Number = 0.0
    maxv: _Number = 1.0
    factor: None = None
    channel_wise: bool = False
    dtype: _Float = "float32"


class _Normalize(Frozen):
    subtrahend: _Numbers = ()
    divisor: _Numbers = ()
    nonzero: bool = False
    channel_wise: bool = False
    dtype: _Float = "float32"


class _Crop(Frozen):
    source_key: Literal["image"] = "image"
    select_fn: None = None  # what is above 0
    channel_indices: None = None
    margin: _Counts = (0, 0, 0)
    allow_smaller: bool = False
    k_divisible: _Counts = (1, 1, 1)
    mode: Literal["constant"] = "constant"
    start_coord_key: str | None = None
    end_coord_key: str | None = None
    lazy: _NotLazy = False


def _resampled(a: _Spacing) -> MonaiStep:
    # Without a type it is computed as the image is held, which is float32.
    return Resample(spacing_mm=a.pixdim, precision=a.dtype or "float32")


def _scaled(a: _Range) -> MonaiStep:
    return ScaleRange(low=a.a_min, high=a.a_max, to_low=a.b_min, to_high=a.b_max, clip=a.clip)


def _own_range(a: _Scale) -> MonaiStep:
    return ScaleOwnRange(to_low=a.minv, to_high=a.maxv, channel_wise=a.channel_wise)


def _cropped(a: _Crop) -> MonaiStep:
    return CropToPositive(margin=a.margin, divisible=a.k_divisible, inside=a.allow_smaller)


# What each takes, and the step that it is; None where a scan is already so.
_KNOWN: Mapping[str, tuple[type[Frozen], Callable[[Any], MonaiStep | None]]] = {
    "LoadImage": (_Load, lambda a: None),
    "EnsureChannelFirst": (_ChannelFirst, lambda a: None),
    "AddChannel": (Frozen, lambda a: None),
    "EnsureType": (_Typed, lambda a: None),
    "ToTensor": (_Typed, lambda a: None),
    "CastToType": (_Typed, lambda a: None),
    "Orientation": (_Orientation, lambda a: TurnToRAS()),
    "Spacing": (_Spacing, _resampled),
    "ScaleIntensityRange": (_Range, _scaled),
    "ScaleIntensity": (_Scale, _own_range),
    "NormalizeIntensity": (_Normalize, lambda a: Standardise(**a.model_dump(exclude={"dtype"}))),
    "CropForeground": (_Crop, _cropped),
}


class Transform(NamedTuple):
    """A transform by its plain name, with the arguments that it is run by in MONAI itself."""

    name: str
    arguments: Mapping[str, Any]


class Preprocessing(NamedTuple):
    """What is done to a scan: as steps, and as the transforms that they come from."""

    steps: tuple[MonaiStep, ...]
    transforms: tuple[Transform, ...]


def read_preprocessing(config: BundleConfig) -> Preprocessing:
    """Return what is done to a scan; ModelError names the transform that cannot be carried."""
    steps, run = [], []
    for found in listed(config, "preprocessing"):
        name = plain_name(found.name, _KNOWN)
        if name not in _KNOWN:
            wanted = f"transforms of a closed list: {', '.join(_KNOWN)}"
            raise config.refuse(f"preprocessing has {quoted(found.name)}", expected=wanted)
        arguments = of_key(config, found, IMAGE)
        if arguments is None:
            continue
        model, make = _KNOWN[name]
        said = parsed(config, model, found.name, arguments)
        try:
            step = make(said)
        except ValidationError as error:
            raise config.refuse(f"{found.name} cannot be carried ({problems(error)})") from error
        steps += [step] if step else []
        kept = said.model_dump(exclude_unset=True, exclude={"source_key", "select_fn"})
        run.append(Transform(name, kept))
    return Preprocessing(tuple(steps), tuple(run))


def listed(config: BundleConfig, part: str) -> Sequence[Component]:
    """Return the transforms of a `Compose`, in order, without those that are disabled."""
    whole = config.part(part)
    if isinstance(whole, dict):
        outer = component(config, whole, part)
        if outer is None or outer.name != "Compose" or outer.arguments.keys() != {"transforms"}:
            raise config.refuse(f"{part} is {quoted(whole)}", expected="a Compose of transforms")
        whole = config.followed(outer.arguments["transforms"])
    if not isinstance(whole, list):
        raise config.refuse(f"{part} is {quoted(whole)}", expected="a Compose of transforms")
    places = (component(config, each, f"{part} {n}") for n, each in enumerate(whole))
    return [found for found in places if found is not None]


def plain_name(name: str, known: Mapping[str, Any]) -> str:
    """Return the name of a transform without what says that it works on a dictionary."""
    ends = (name.removesuffix(end) for end in ("d", "D", "Dict"))
    return next((short for short in ends if short in known), name)


def of_key(config: BundleConfig, found: Component, key: str) -> dict[str, Any] | None:
    """Return the arguments for one key of the dictionary; None where it is of other keys alone."""
    arguments = dict(found.arguments)
    said = config.plain(arguments.pop("keys", key), f"keys of {found.name}")
    keys = said if isinstance(said, list) else [said]
    if key not in keys:
        return None
    for name in _PER_KEY & arguments.keys():
        value = config.plain(arguments[name], f"{name} of {found.name}")
        if isinstance(value, list) and len(value) == len(keys):
            value = value[keys.index(key)]
        arguments[name] = value
    return arguments
