"""Small pictures of a case: all modalities side by side, and the mask in three planes.

Upright and radiological: the subject's right is on the left of axial and coronal pictures, front is
up in axial and left in sagittal ones. Needs the extra [report].
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vol3dseg.datasets.case import Case
from vol3dseg.extras import load_extra
from vol3dseg.quality.background import Scale, Window, grey_scale, inside_of
from vol3dseg.quality.contents import Contents, read_contents
from vol3dseg.reporting.figures import class_colour
from vol3dseg.reporting.page import image_uri
from vol3dseg.reporting.slices import LEFT_SIDE, PLANES, Plane
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import LabelSet
from vol3dseg.space.resampling import resample

_SHOWN: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
_OPACITY = 0.4
_GAP = 4  # pixels between panels


class Picture(NamedTuple):
    """Panels of one size in a row."""

    content: bytes  # a WebP file
    captions: tuple[str, ...]  # one for each panel
    alternative: str  # what is seen, for those who cannot see it

    @property
    def uri(self) -> str:
        """The file as a `data:` address."""
        return image_uri(self.content, "webp")


def require_pillow() -> None:
    """Raise the error that says how to install Pillow, where it is not."""
    _pillow("Image")


def colour_of(number: int) -> str:
    """Return the colour of the foreground class `number`, from 0, as "#rrggbb"."""
    return f"#{bytes(round(255 * part) for part in class_colour(number)).hex()}"


def draw(
    case: Case,
    modalities: tuple[str, ...],
    labels: LabelSet | None,
    classes: Sequence[str],
    windows: Mapping[str, Window],
    side: int = 144,
) -> tuple[str, tuple[Picture, ...]]:
    """Read a case and draw it in panels of `side` pixels; return its id with the pictures.

    The order of `classes`, the foreground classes of the whole set, gives their colours; `windows`
    are those of the config.
    """
    contents = read_contents(case, modalities, labels)
    return case.id, draw_contents(contents, classes, windows, side)


def draw_contents(
    contents: Contents, classes: Sequence[str], windows: Mapping[str, Window], side: int = 144
) -> tuple[Picture, ...]:
    """Draw a case whose arrays are in memory: modalities side by side, then the mask."""
    if contents.geometry is None or not contents.images:
        return ()
    upright = _upright(contents, contents.geometry, classes, windows)
    names = tuple(upright.images)
    modalities = [upright.panel(name, "axial", side, painted=False) for name in names]
    masks = [upright.panel(names[0], plane, side, painted=True) for plane in _SHOWN]
    shown = "without a mask" if upright.label is None else "with the mask"
    axial = f"axial slice {upright.level('axial')}: {', '.join(names)}"
    levels = tuple(f"{plane} {upright.level(plane)}" for plane in _SHOWN)
    return (
        Picture(_webp(modalities), tuple(upright.caption(name) for name in names), axial),
        Picture(_webp(masks), levels, f"{names[0]} {shown} in three planes"),
    )


def draw_plane(
    grey: NDArray[np.uint8],
    label: NDArray[np.uint8] | None,
    size_mm: tuple[float, float],
    side: int = 144,
) -> bytes:
    """Draw one plane, with classes over it, as a WebP file whose longer side has `side` pixels.

    `size_mm` is width and height; rows of the arrays go down.
    """
    size = [max(1, round(side * length / max(size_mm))) for length in size_mm]
    colour = np.repeat(_resized(grey, size, smooth=True)[..., None], 3, axis=2)
    if label is not None:
        colour = _painted(colour, _resized(label, size, smooth=False))
    return _webp([_pillow("Image").fromarray(colour)])


class _Upright(NamedTuple):
    """A case in RAS axes, cut to the body; brightness from 0 to 255."""

    images: dict[str, NDArray[np.uint8]]
    scales: dict[str, Scale]
    label: NDArray[np.uint8] | None
    spacing_mm: tuple[float, float, float]
    start: tuple[int, int, int]  # of the cut
    at: Sequence[int]  # the slice that is shown across each axis

    def level(self, plane: Plane) -> int:
        """Return which slice of the whole, upright grid is shown, from 1."""
        axis = PLANES.index(plane)
        return self.start[axis] + self.at[axis] + 1

    def caption(self, name: str) -> str:
        """Return the name of an image, with the window that it is shown in, if there is one."""
        scale = self.scales[name]
        return f"{name}, {scale}" if scale.fixed else name

    def panel(self, name: str, plane: Plane, side: int, painted: bool) -> Any:
        """Return a picture in a black square, with a letter at its left; planes have one scale."""
        axis = PLANES.index(plane)
        lengths_mm = np.array(self.images[name].shape) * self.spacing_mm
        scaled = np.rint(side * np.delete(lengths_mm, axis) / lengths_mm.max())
        size = np.maximum(scaled, 1).astype(int).tolist()
        grey = _resized(self._plane(self.images[name], axis), size, smooth=True)
        colour = np.repeat(grey[..., None], 3, axis=2)
        if painted and self.label is not None:
            colour = _painted(colour, _resized(self._plane(self.label, axis), size, smooth=False))
        square = _pillow("Image").new("RGB", (side, side))
        at = (side - size[0]) // 2, (side - size[1]) // 2
        square.paste(_pillow("Image").fromarray(colour), at)
        font = _pillow("ImageFont").load_default(max(10, side // 11))
        pen, letter = _pillow("ImageDraw").Draw(square), LEFT_SIDE[plane]
        pen.text((3, side / 2), letter, "white", font, "lm", stroke_width=1, stroke_fill="black")
        return square

    def _plane(self, array: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.flip(array.take(self.at[axis], axis).T, (0, 1)))


def _upright(
    contents: Contents, source: Geometry, classes: Sequence[str], windows: Mapping[str, Window]
) -> _Upright:
    target, images = source.canonical(), contents.images
    insides = {name: inside_of(array, name) for name, array in images.items()}
    scales = {n: grey_scale(a, insides[n], n, windows.get(n)) for n, a in images.items()}
    # A voxel of 0 amid the body is no hole: where images are z-scores, 0 is the mean.
    body = np.any(list(insides.values()), axis=0)
    bright = {name: _brightness(array, scales[name], body) for name, array in images.items()}
    label = None
    if contents.classes is not None:
        table = np.zeros(256, np.uint8)  # nothing is painted where nothing is judged
        table[1 : len(contents.names) + 1] = [classes.index(n) + 1 for n in contents.names]
        label = table[contents.classes]
        body = body | (label > 0)
    box = Box.around(resample(body, source, target)) or Box.whole(target.shape)
    cut = {name: resample(a, source, target)[box.slices] for name, a in bright.items()}
    if label is not None:
        label = resample(label, source, target)[box.slices]
    return _Upright(cut, scales, label, target.spacing_mm, box.start, _fullest(label, box.shape))


def _fullest(label: NDArray[np.uint8] | None, shape: tuple[int, int, int]) -> list[int]:
    """Return the slice with most foreground across each axis; the middle where there is none."""
    if label is None or not label.any():
        return [n // 2 for n in shape]
    across = ((1, 2), (0, 2), (0, 1))
    return [int(np.count_nonzero(label, axis=axes).argmax()) for axes in across]


def _brightness(
    array: NDArray[np.float32], scale: Scale, body: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return 0 outside the body, and 0 to 255 between the ends of the scale."""
    scaled = (array - scale.low) / ((scale.high - scale.low) or 1.0) * 255
    return np.where(body, np.clip(scaled, 0, 255), 0).astype(np.uint8)


def _resized(plane: NDArray[np.uint8], size: Sequence[int], smooth: bool) -> NDArray[np.uint8]:
    pillow = _pillow("Image")
    finer = size[0] >= plane.shape[1] and size[1] >= plane.shape[0]
    smoothly = pillow.Resampling.BICUBIC if finer else pillow.Resampling.LANCZOS
    way = smoothly if smooth else pillow.Resampling.NEAREST
    return np.asarray(pillow.fromarray(plane).resize(size, way))


def _painted(colour: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the picture with classes tinted, and drawn in full colour along their borders."""
    padded = np.pad(label, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([label != other for other in around], axis=0)
    opacity = np.where(border, 1.0, _OPACITY)[..., None] * (label > 0)[..., None]
    numbers = range(int(label.max(initial=0)))
    tints = np.array([(0, 0, 0), *(tuple(bytes.fromhex(colour_of(n)[1:])) for n in numbers)])
    return np.asarray(np.rint(colour * (1 - opacity) + tints[label] * opacity), dtype=np.uint8)


def _webp(panels: Sequence[Any]) -> bytes:
    (width, height), stream = panels[0].size, io.BytesIO()
    row = _pillow("Image").new("RGB", (len(panels) * (width + _GAP) - _GAP, height), "gray")
    for number, panel in enumerate(panels):
        row.paste(panel, (number * (width + _GAP), 0))
    row.save(stream, "WEBP", quality=78, method=4)
    return stream.getvalue()


def _pillow(module: str) -> Any:
    return load_extra(f"PIL.{module}", "report")
