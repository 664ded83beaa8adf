"""Where voxels lie in the world.

The one convention of this package: arrays have the axes i, j, k and, where there are channels, c;
boxes are half-open; world coordinates are RAS+ in mm (x to the right, y to the front, z up), as in
NIfTI; an affine maps the index of a voxel's centre to the world.
"""

from dataclasses import dataclass
from itertools import product

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vol3dseg.errors import GridError
from vol3dseg.space.box import Box, Shape

_FARTHEST = 1e9  # mm: what is said to be beyond a thousand kilometres is damage, and overflows
_CLOSEST = 1e-9  # mm between voxels, likewise
_LONGEST, _MOST = 2**15, 2**31  # voxels along an axis, and in all, of a grid to resample onto
_MOST_SHEAR = 1e-3  # cosine; float32 rounds to 1e-7, headers of four digits to 1e-4
_PART = 1e-3  # of a voxel, or of a spacing: float32 rounds to 1e-7 of each of thousands of voxels
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """The grid of a volume.

    Reorienting, cropping, padding and resampling are all changes of grid, so two geometries say all
    that is needed to get from one to the other (see `vol3dseg.space.resampling`).

    Parameters
    ----------
    shape : (3,) tuple of int
        Voxels along i, j, k.
    affine : (4, 4) array
        From voxel index to world RAS+ [mm].
    stated_mm : (3,) tuple of float or None
        Spacing as the header states it beside the affine, whose columns are of that length but for
        rounding [mm]. It does not count where grids are compared, and is left out where it holds
        what is no length.

    Raises
    ------
    GridError
        The shape has no voxels, or the affine is not finite, not invertible, or of a size that no
        scan has.
    """

    shape: Shape
    affine: NDArray[np.float64]
    stated_mm: Spacing | None

    def __init__(
        self, shape: tuple[int, ...], affine: ArrayLike, stated_mm: Spacing | None = None
    ) -> None:
        matrix = np.array(affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            wanted = "three axes of at least one voxel"
            raise unusable(f"shape {shape}", wanted, remedy="choose another file")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise unusable(f"the affine is {matrix.tolist()}", "a finite 4 x 4 matrix")
        if np.abs(matrix).max() > _FARTHEST:
            found = f"the affine reaches {np.abs(matrix).max():.3g} mm"
            raise unusable(found, f"no more than {_FARTHEST:g} mm")
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        if lengths.min() < _CLOSEST or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-3:
            found = f"the affine's axes {matrix[:3, :3].tolist()} do not span a volume"
            raise unusable(found, "three of some length, in different directions")
        matrix.setflags(write=False)
        object.__setattr__(self, "shape", (int(shape[0]), int(shape[1]), int(shape[2])))
        object.__setattr__(self, "affine", matrix)
        sound = stated_mm and all(_CLOSEST <= length <= _FARTHEST for length in stated_mm)
        object.__setattr__(self, "stated_mm", stated_mm if sound else None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return self.shape == other.shape and np.array_equal(self.affine, other.affine)

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes()))

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        spacing = "x".join(f"{s:.4g}" for s in self.spacing_mm)
        return f"{size} voxels of {spacing} mm, axes {self.axis_codes}"

    def placed(self) -> str:
        """Return the grid as text, with the position of its first voxel."""
        x, y, z = self.affine[:3, 3].tolist()
        return f"{self} from ({x:.4g}, {y:.4g}, {z:.4g}) mm"

    @property
    def spacing_mm(self) -> Spacing:
        """Distance between neighbouring voxel centres along i, j, k [mm], from the affine."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def header_spacing_mm(self) -> Spacing:
        """Spacing as the header states it, or from the affine where it does not [mm]."""
        return self.stated_mm or self.spacing_mm

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel [mm^3]."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def shear(self) -> float:
        """Largest cosine of the angle between two axes; 0 where all stand at right angles."""
        axes = self.affine[:3, :3] / self.spacing_mm
        return float(np.abs(axes.T @ axes - np.eye(3)).max())

    @property
    def axis_codes(self) -> str:
        """Direction in which i, j, k grow, by closest anatomical axis: "RAS", "LPS", ..."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def require_right_angles(self, where: object) -> None:
        """Raise GridError, about what lies there (`where`), unless all axes are at right angles."""
        if self.shear > _MOST_SHEAR:
            raise GridError(
                f"two axes stand at {np.degrees(np.arccos(self.shear)):.1f} degrees",
                where=where,
                expected="right angles (the gantry was tilted?)",
                remedy="resample it onto a straight grid first, or onto another modality's with "
                "the dataset table's column <modality>_resample",
            )

    def canonical(self) -> "Geometry":
        """Return the same grid with axes in the order and direction closest to RAS+."""
        orientation = nib.orientations.io_orientation(self.affine)
        affine = self.affine @ nib.orientations.inv_ornt_aff(orientation, self.shape)
        order = np.argsort(orientation[:, 0])
        i, j, k = order.tolist()
        stated = self.stated_mm and (self.stated_mm[i], self.stated_mm[j], self.stated_mm[k])
        return Geometry((self.shape[i], self.shape[j], self.shape[k]), affine, stated)

    def cropped(self, box: Box) -> "Geometry":
        """Return the grid of `box`, which may reach beyond this one."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ box.start + self.affine[:3, 3]
        return Geometry(box.shape, affine, self.stated_mm)

    def with_spacing(self, spacing_mm: Spacing) -> "Geometry":
        """Return the grid of another spacing over the same field of view.

        Both grids share the outer edge of their first voxel. Where the field of view is no multiple
        of the spacing, the last voxel reaches beyond it, so that nothing is cut off. An axis whose
        spacing differs by less than a thousandth is kept as it is; so is what reaches beyond the
        last voxel by less than a thousandth of one, since headers round.

        Parameters
        ----------
        spacing_mm : (3,) tuple of float
            New distance between voxel centres along i, j, k [mm].

        Raises
        ------
        GridError
            There would be more voxels than any scan has: the header says a spacing in other units.
        """
        ratio = np.array(spacing_mm) / self.spacing_mm
        ratio[np.abs(ratio - 1) < _PART] = 1.0
        sides = np.maximum(np.ceil(np.array(self.shape) / ratio - _PART), 1)
        return self.sampled(sides, ratio, ratio / 2 - 0.5)

    def stretched(self, sides: tuple[int, int, int]) -> "Geometry":
        """Return the grid of other numbers of voxels whose outer edges are those of this one.

        Parameters
        ----------
        sides : (3,) tuple of int
            New voxels along i, j, k.

        Raises
        ------
        GridError
            There would be none along an axis, or more than any scan has.
        """
        wanted = np.array(sides, dtype=np.float64)
        ratio = np.array(self.shape) / np.maximum(wanted, 1)
        return self.sampled(wanted, ratio, ratio / 2 - 0.5)

    def sampled(
        self, sides: NDArray[np.float64], ratio: NDArray[np.float64], first: NDArray[np.float64]
    ) -> "Geometry":
        """Return the grid of `sides` voxels, each `ratio` times as long as those of this one.

        Parameters
        ----------
        sides : (3,) array of whole numbers
            New voxels along i, j, k.
        ratio : (3,) array
        first : (3,) array
            Where the centre of the first voxel lies [voxels of this grid].

        Raises
        ------
        GridError
            There would be none along an axis, or more than any scan has.
        """
        if sides.min() < 1 or sides.max() > _LONGEST or sides.prod() > _MOST:
            spacing_mm = ratio * self.spacing_mm
            raise GridError(
                f"{self} would be {'x'.join(f'{n:.4g}' for n in sides)} voxels if resampled to "
                f"{'x'.join(f'{s:.4g}' for s in spacing_mm)} mm",
                expected=f"1 to {_LONGEST} along an axis, and at most {_MOST} in all",
                remedy="mend the spacing in the header, or prepare with a coarser one",
            )
        shape = sides.astype(int)
        to_old = np.diag([*ratio, 1.0])
        to_old[:3, 3] = first
        return Geometry(tuple(shape.tolist()), self.affine @ to_old)

    def fits(self, other: "Geometry", tolerance_voxels: float = 0.1) -> bool:
        """Tell whether both are the same grid, up to rounding in file headers.

        Parameters
        ----------
        other : Geometry
        tolerance_voxels : float
            How far the corners may lie apart [voxels of this grid]. Elementwise comparison of
            affines would be too strict near the origin and too lax far from it.
        """
        if self.shape != other.shape:
            return False
        apart = np.linalg.inv(self.affine) @ (other.affine - self.affine) @ corners(self.shape)
        return float(np.abs(apart[:3]).max()) <= tolerance_voxels


def unusable(
    found: str, expected: str, where: object = "", remedy: str = "mend the header"
) -> GridError:
    """Return the error of a header whose grid is of no use."""
    return GridError(found, where=where, expected=expected, remedy=remedy)


def corners(shape: Shape) -> NDArray[np.int64]:
    """Return the indices of the voxels at the corners, (4, 8), the last of each 1."""
    return np.array([[*c, 1] for c in product(*((0, n - 1) for n in shape))]).T
