"""Real models of nnU-Net, adopted, against the label maps that nnU-Net itself has written."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.reading import read_volume
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.inference.loading import load_predictor

# By which folder of label maps: the model, its folds, the cases. Several tiles, other axes and
# spacings, transposed axes, separate z, CT windows, regions and empty tiles are among them.
RUNS = {
    "501-fold0": ("Dataset501_Hippo", (0,), "hippocampus"),
    "501-fold0-mirrored": ("Dataset501_Hippo", (0,), "hippocampus"),
    "501-folds01": ("Dataset501_Hippo", (0, 1), "hippocampus"),
    "502-fold0-mirrored": ("Dataset502_Aniso", (0,), "aniso"),
    "502-folds01-mirrored": ("Dataset502_Aniso", (0, 1), "aniso"),
    "503-fold0-mirrored": ("Dataset503_Regions", (0,), "aniso"),
}
TRAINER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


@pytest.fixture(scope="module")
def adopted(shared_nnunet, tmp_path_factory):
    """Return the file of a model of some folds, made once."""
    folder, made = tmp_path_factory.mktemp("adopted"), {}

    def make(model: str, folds: tuple[int, ...]) -> Path:
        if (model, folds) not in made:
            path = folder / f"{model}-{len(folds)}.onnx"
            adopt_nnunet(shared_nnunet / "models" / model / TRAINER, path, folds=folds)
            made[model, folds] = path
        return made[model, folds]

    return make


def differing(shared_nnunet, predictor, says, cases):
    """Return how many voxels differ, and how many there are: all, and foreground."""
    modalities, counts = predictor.manifest.recipe.modalities, np.zeros(3, dtype=int)
    values = np.array([label.write for label in predictor.manifest.labels.classes])
    for file in sorted((shared_nnunet / "nnunet-says" / says).glob("*.nii.gz")):
        case_id, scans = file.name[:-7], shared_nnunet / "cases" / cases
        images = {
            name: ImageSource(scans / f"{case_id}_{number:04d}.nii.gz")
            for number, name in enumerate(modalities)
        }
        found = predictor(read_volume(Case(case_id, case_id, images), modalities)).segmentation
        told = np.asanyarray(nib.load(file).dataobj)
        counts += (values[found.array] != told).sum(), told.size, (told > 0).sum()
    return counts


@pytest.mark.parametrize(
    ("device", "says"),
    [
        *(("cpu", says) for says in RUNS),
        pytest.param("openvino", "501-fold0-mirrored", marks=pytest.mark.slow),
        *(("openvino", says) for says in RUNS if says != "501-fold0-mirrored"),
    ],
)
def test_labels_are_those_of_nnunet(shared_nnunet, adopted, device, says):
    pytest.importorskip("onnxruntime" if device == "cpu" else "openvino")
    model, folds, cases = RUNS[says]
    mirror = None if "mirrored" in says else False
    predictor = load_predictor(adopted(model, folds), device, mirror=mirror)
    differ, voxels, _ = differing(shared_nnunet, predictor, says, cases)
    assert differ <= 10e-6 * voxels


@pytest.mark.parametrize("says", RUNS)
def test_bfloat16_changes_few_labels(shared_nnunet, adopted, says):
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    model, folds, cases = RUNS[says]
    mirror = None if "mirrored" in says else False
    path = adopted(model, folds)
    predictor = load_predictor(path, "openvino", precision="bfloat16", mirror=mirror)
    differ, _, foreground = differing(shared_nnunet, predictor, says, cases)
    assert 0 < differ <= 0.003 * foreground
