"""Where a model and nnU-Net part: each step, made different by itself, is the one that is named."""

from functools import partial

import numpy as np
import pytest

from tests.nnunet_folders import make_cases, make_model
from vol3dseg.datasets.reading import read_volume
from vol3dseg.datasets.selection import gather_cases
from vol3dseg.export.nnunet.adopting import adopt_nnunet
from vol3dseg.export.nnunet.own_run import along_file
from vol3dseg.export.nnunet.plans import read_plans
from vol3dseg.export.parting import step_where_they_part
from vol3dseg.inference.loading import load_predictor
from vol3dseg.inference.runtimes.onnx_backend import OnnxBackend
from vol3dseg.model.model_file import read_model
from vol3dseg.preprocessing.prepare import prepare


class Stages(dict):
    """What nnU-Net would have written of a case, by stage."""

    def array(self, case, stage):
        return self[stage]


MANY = {"labels": {"background": 0, **{f"part {n}": n for n in range(1, 9)}}}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((("0",), None), id="a fold"),
        pytest.param((("0", "1"), None), id="folds side by side"),
        pytest.param((("0",), MANY), id="features"),
        pytest.param((("0", "1"), MANY), id="features of folds"),
    ],
)
def known(request, tmp_path_factory):
    """A predictor, a scan, the plans, and the stages that the predictor itself goes through."""
    folder, (folds, dataset) = tmp_path_factory.mktemp("parting"), request.param
    model, file = make_model(folder, folds, dataset), folder / "m.onnx"
    made = adopt_nnunet(model, file, mirror=False)
    predictor = load_predictor(file, "cpu")
    assert (predictor.head is not None) == (dataset is MANY)
    plans = read_plans(model / "plans.json", "3d_fullres", 2)
    modalities = predictor.manifest.recipe.modalities
    case = gather_cases([make_cases(folder / "cases")], modalities, numbered=True)[0]
    volume = read_volume(case, modalities)

    def of_network(array):  # from i, j, k, the way nnU-Net goes from k, j, i
        return array.transpose(0, 3, 2, 1).transpose(
            0, *(1 + axis for axis in plans.transpose_forward)
        )

    prepared = prepare(volume, predictor.manifest.recipe)
    image = np.moveaxis(prepared.volume.array, -1, 0)
    patch = np.zeros((2, *predictor.manifest.recipe.patch_size), np.float32)
    patch += np.random.default_rng(0).normal(size=patch.shape)
    logits = OnnxBackend(read_model(file).content)(patch[None])[0]
    each = logits.reshape(len(folds), len(made.outputs.channels), *patch.shape[1:])
    there = predictor.segment(prepared.volume, prepared.volume.geometry, True)
    blended = np.log(np.moveaxis(there.probabilities, -1, 0).astype(np.float64))
    stages = {
        "image": image,
        "patch": patch,
        "patch_logits": each.mean(axis=0),
        "logits": blended,
    }
    return predictor, volume, plans, {n: of_network(array) for n, array in stages.items()}


@pytest.mark.parametrize(
    ("stage", "change", "said"),
    [
        pytest.param("image", lambda a: a + 0.01, "in the prepared image, by up to 0.01", id="own"),
        pytest.param("image", lambda a: a[:, 1:], "in the prepared image, of ", id="other shape"),
        pytest.param("patch_logits", lambda a: a * 1.1, "in the network, by up to", id="network"),
        pytest.param("logits", lambda a: a[::-1], "in the blending of tiles", id="blending"),
        pytest.param("logits", lambda a: a, "in resampling to the grid", id="all the same"),
    ],
)
def test_the_first_step_that_differs_is_named(known, stage, change, said):
    predictor, volume, plans, stages = known
    theirs = Stages(stages | {stage: change(stages[stage])})
    along = partial(along_file, theirs, "a", plans)
    assert step_where_they_part(predictor, volume, along, sure=0.05).startswith(said)
