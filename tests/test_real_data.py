"""Real volumes: geometry, label values and layouts that no phantom has."""

import nibabel as nib
import numpy as np
import pytest

from vol3dseg.config import Config, ModelConfig, load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.predictor import Predictor
from vol3dseg.preprocessing.prepare import prepare, prepare_labels, restore_labels
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.space.resampling import resample


def test_whole_brats_cases_come_home(shared_data):
    config = load_config("brats2020")
    for case in find_cases(shared_data / "brats"):
        volume = read_volume(case, config.recipe.modalities)
        label = read_segmentation(case, config.labels, volume.geometry)
        assert volume.geometry.axis_codes == "LPS"
        prepared = prepare(volume, config.recipe)
        working = prepare_labels(label, prepared)
        np.testing.assert_array_equal(restore_labels(working, volume.geometry).array, label.array)
        inside = prepared.volume.array[prepared.volume.array[..., 0] != 0][:, 0]
        assert abs(inside.mean()) < 1e-3
        assert abs(inside.std() - 1) < 1e-3


def test_prediction_is_written_on_the_grid_of_the_source(shared_data, tmp_path, manifest, record):
    cases = find_cases(shared_data / "brats")[:1]
    recipe = load_config("brats2020").recipe.select(["flair", "t1"])
    whole = manifest.model_copy(update={"recipe": recipe, "overlap": 0.0})

    def bright_flair(patches):
        score = patches[:, :1] > 2
        return np.concatenate([~score, 0 * score, 0 * score, score], axis=1).astype(np.float32)

    records = predict_cases(cases, Predictor(bright_flair, whole), tmp_path, record).cases
    for case in cases:
        assert records[case.id].error == ""
        ours = nib.load(tmp_path / f"{case.id}.nii.gz")
        source = nib.load(case.images["flair"].path)
        assert ours.shape == source.shape
        np.testing.assert_array_equal(ours.affine, source.affine)
        found, flair = np.asarray(ours.dataobj), np.asarray(source.dataobj).astype(np.float64)
        assert set(np.unique(found).tolist()) == {0, 4}
        brain = flair[flair > 0]
        bright = flair > brain.mean() + 2 * brain.std()
        assert (bright == (found == 4)).mean() > 0.99999


def test_hippocampus_is_read_by_name(shared_data, tmp_path):
    config = load_config("hippocampus")
    cases = find_cases(shared_data / "hippocampus")
    assert len(cases) == 208
    index = preprocess(
        cases[:4],
        tmp_path,
        Config(labels=config.labels, recipe=config.recipe, model=ModelConfig(depth=1)),
    )
    assert not index.failed
    for entry in index.cases:
        assert entry.class_voxels is not None
        assert entry.class_voxels["anterior"] > 0
        assert entry.labels_changed == 0


@pytest.mark.parametrize("spacing", [(0.7, 0.9, 1.0), (2.0, 1.5, 3.0)], ids=["finer", "coarser"])
def test_simpleitk_resamples_a_real_scan_alike(shared_data, spacing):
    sitk = pytest.importorskip("SimpleITK")
    case = find_cases(shared_data / "hippocampus")[0]
    volume = read_volume(case, ["MRI"])
    target = volume.geometry.with_spacing(spacing)
    ours = resample(volume.array[..., 0], volume.geometry, target)
    image = sitk.GetImageFromArray(volume.array[..., 0].T.astype(np.float64))
    filter_ = sitk.ResampleImageFilter()
    filter_.SetInterpolator(sitk.sitkLinear)
    filter_.SetSize(target.shape)
    step = np.array(target.spacing_mm) / volume.geometry.spacing_mm
    filter_.SetOutputSpacing(step.tolist())
    filter_.SetOutputOrigin((step / 2 - 0.5).tolist())
    theirs = sitk.GetArrayFromImage(filter_.Execute(image)).T
    inner = tuple(slice(2, -2) for _ in range(3))
    if spacing[0] < 1:  # no anti-aliasing here, so both interpolate between the same voxels
        scale = volume.array.std()
        np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-3 * scale)
    else:  # ITK skips voxels; a mean over a finer neighbourhood must still be near
        assert np.corrcoef(ours[inner].ravel(), theirs[inner].ravel())[0, 1] > 0.95
