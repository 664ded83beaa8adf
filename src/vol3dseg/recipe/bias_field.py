"""Correction of the bias field: the slow rise and fall of intensities that MR coils make."""

from contextlib import ExitStack
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vol3dseg.errors import IntensityError
from vol3dseg.extras import ProcessSetting, simpleitk
from vol3dseg.schema import Frozen, Positive, Share

_LEAST = 4  # voxels that shrinking leaves along an axis
_FINEST = 512  # points of the field's splines along an axis, at the last level
_Iterations = Annotated[Positive, Field(le=10_000)]
_Bins = Annotated[Positive, Field(ge=2, le=65_536)]


class N4(Frozen):
    """Divide an image by the smooth field that N4 finds in it.

    After N. J. Tustison et al., "N4ITK: improved N3 bias correction", IEEE Transactions on Medical
    Imaging 29(6), 2010. Names are those of SimpleITK's `N4BiasFieldCorrectionImageFilter` and its
    example.

    Attributes
    ----------
    mask : "nonzero" or "otsu"
        Which voxels the field is found in: those above 0, or those above Otsu's threshold, for
        images whose background is not 0. The whole image is divided.
    shrink_factor : int
        The field is found on every n-th voxel along each axis, as long as that leaves four.
    maximum_number_of_iterations : tuple of int
        One for each level; each level doubles the fineness of the field.
    convergence_threshold : float
        A level ends when the field changes by less [coefficient of variation].
    control_points, spline_order, histogram_bins : int
        Of the field's splines along each axis at the first level; of its histogram.
    width, wiener_noise : float
        Of the field's histogram at half its height [logarithm of intensity]; of the deconvolution.
    otsu_bins : int
        Of the histogram that Otsu's threshold is found in.
    """

    method: Literal["n4"] = "n4"
    mask: Literal["nonzero", "otsu"] = "nonzero"
    shrink_factor: Annotated[Positive, Field(le=64)] = 4
    maximum_number_of_iterations: tuple[_Iterations, ...] = Field(
        default=(50, 50, 50, 50), min_length=1, max_length=8
    )
    convergence_threshold: Share = 0.001
    # Defaults of SimpleITK 2.5, said here so that models do not depend on its version.
    control_points: Annotated[Positive, Field(le=64)] = 4
    spline_order: Annotated[Positive, Field(le=3)] = 3
    histogram_bins: _Bins = 200
    width: Annotated[Share, Field(gt=0)] = 0.15
    wiener_noise: Annotated[Share, Field(gt=0)] = 0.01
    otsu_bins: _Bins = 200

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, data: Any) -> Any:
        """Let `n4` stand for `{method: n4}`."""
        return {"method": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _of_a_size(self) -> "N4":
        if self.control_points <= self.spline_order:
            raise ValueError(
                f"control_points {self.control_points} must be more than spline_order "
                f"{self.spline_order}"
            )
        levels = len(self.maximum_number_of_iterations)
        finest = (self.control_points - self.spline_order) * 2 ** (levels - 1) + self.spline_order
        if finest > _FINEST:
            raise ValueError(
                f"{levels} levels from {self.control_points} control_points on end in {finest} "
                f"along an axis, expected at most {_FINEST}; lower either"
            )
        return self

    def corrected(self, image: NDArray[np.float32], name: str = "") -> NDArray[np.float32]:
        """Return an (i, j, k) image without its bias field.

        The field is divided by its geometric mean inside the mask, which N4 leaves open, so that
        intensities stay of one size from scan to scan. What N4 finds does not depend on the
        spacing, the number of threads, or what else is corrected at the same time. The image itself
        is returned where there is nothing to find a field in: one voxel along an axis, or fewer
        than two different values inside the mask. Raises IntensityError where SimpleITK fails, and
        MissingExtraError.
        """
        sitk = simpleitk()
        try:
            with _ONE_THREAD:
                found = self._log_field(sitk, image)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise IntensityError(
                f"N4 found no bias field ({reason})",
                where=name,
                remedy="leave the case out, or prepare and train with recipe.bias_correction: null",
            ) from error
        if found is None:
            return image
        field = np.exp(found, out=found)
        return np.divide(image, field, out=field)

    def _log_field(self, sitk: Any, image: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return the (i, j, k) logarithm of the field, 0 on average inside the mask."""
        if min(image.shape) < 2:
            return None
        scan = sitk.GetImageFromArray(image.T)
        inside = scan > 0  # the others have no logarithm
        if self.mask == "otsu":
            inside = inside & sitk.OtsuThreshold(scan, 0, 1, self.otsu_bins)
        factors = [max(1, min(self.shrink_factor, n // _LEAST)) for n in image.shape]
        small, small_inside = sitk.Shrink(scan, factors), sitk.Shrink(inside, factors)
        values = sitk.GetArrayViewFromImage(small)[sitk.GetArrayViewFromImage(small_inside) > 0]
        if values.size == 0 or values.min() == values.max():
            return None
        filter_ = self._filter(sitk)
        filter_.Execute(small, small_inside)
        field: NDArray[np.float32] = sitk.GetArrayFromImage(filter_.GetLogBiasFieldAsImage(scan))
        field -= field[sitk.GetArrayViewFromImage(inside) > 0].mean(dtype=np.float64)
        return field.T

    def _filter(self, sitk: Any) -> Any:
        """Return a new filter; one that has run once would give other results."""
        filter_ = sitk.N4BiasFieldCorrectionImageFilter()
        filter_.SetMaximumNumberOfIterations(self.maximum_number_of_iterations)
        filter_.SetConvergenceThreshold(self.convergence_threshold)
        filter_.SetNumberOfControlPoints([self.control_points] * 3)
        filter_.SetSplineOrder(self.spline_order)
        filter_.SetNumberOfHistogramBins(self.histogram_bins)
        filter_.SetBiasFieldFullWidthAtHalfMaximum(self.width)
        filter_.SetWienerFilterNoise(self.wiener_noise)
        return filter_


def _one_thread(restore: ExitStack) -> None:
    """Let ITK make filters of one thread: with more, last bits differ.

    The filters inside N4 take their threads from this setting, whatever N4 is told itself.
    """
    process = simpleitk().ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    restore.callback(process.SetGlobalDefaultNumberOfThreads, before)
    process.SetGlobalDefaultNumberOfThreads(1)


_ONE_THREAD = ProcessSetting(_one_thread)
