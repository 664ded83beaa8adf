"""What is told of adopted models: that nobody has compared them, and of scans in other axes."""

import pytest

from vol3dseg.inference.predictor import Predictor
from vol3dseg.model.adopted import AdoptedFacts, Proof
from vol3dseg.model.adopted_notes import axes_warnings, unproven
from vol3dseg.reporting.self_description import describe_model

FACTS = AdoptedFacts(
    framework="nnU-Net", dataset="Dataset1_X", plans="nnUNetPlans", configuration="3d_fullres",
    trainer="nnUNetTrainer", fold="0", checkpoint="checkpoint_final.pth", epoch=1000,
    sha256="ab" * 32,
)  # fmt: skip
PROOF = Proof(
    against="label maps", framework="nnU-Net", cases=2, voxels=500_000, differing=2,
    dice={"edema": 0.9999, "enhancing": None}, max_abs_difference=None, mirror=("i",),
    provider="onnxruntime (CPU)", versions={"nnunetv2": "2.8.1"},
)  # fmt: skip


@pytest.fixture
def adopted(manifest):
    """A manifest whose recipe keeps the axes of the file."""

    def make(orientation="stored", **changes):
        recipe = manifest.recipe.model_copy(update={"orientation": orientation})
        return manifest.model_copy(update={"recipe": recipe, "members": (FACTS,), **changes})

    return make


def test_only_an_adopted_model_without_proof_is_unproven(adopted, manifest):
    assert unproven(manifest) == ()
    assert unproven(adopted(proof=PROOF)) == ()
    (said,) = unproven(adopted())
    assert "never compared with those of nnU-Net" in said
    assert Predictor(lambda patches: patches, adopted()).notes == (said,)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "RPI"])
def test_usual_axes_are_nothing_to_speak_of(adopted, axes):
    assert axes_warnings(adopted(), axes) == ()


@pytest.mark.parametrize("axes", ["PIR", "SAR", "PLS"])
def test_unusual_axes_are(adopted, axes):
    (said,) = axes_warnings(adopted(), axes)
    assert f"stored as {axes}, and" in said
    assert axes_warnings(adopted("RAS"), axes) == ()


def test_axes_are_compared_with_those_of_training_where_they_are_known(adopted):
    known = adopted(training_axes="PIR")
    assert axes_warnings(known, "PIR") == ()
    (said,) = axes_warnings(known, "LPS")
    assert "stored as LPS, and" in said
    assert "training scans were stored as PIR" in said


def test_info_says_what_was_compared(adopted):
    tables = describe_model(adopted(proof=PROOF, training_axes="LPS"), {})
    facts = dict(tables[""].rows)
    assert facts["trained by"] == "nnU-Net: Dataset1_X, 3d_fullres, nnUNetPlans"
    assert facts["training scans"] == "stored as LPS"
    assert facts["agreement"].startswith("2 of 500000 voxels of 2 cases differ (4 in a million)")
    proof = dict(tables["Agreement with nnU-Net"].rows)
    assert proof["Dice between the two"] == "edema 0.999900, enhancing -"
    assert tables["Where the weights come from"].rows == (
        ("nnUNetTrainer", "0", "checkpoint_final.pth", "1000", "ab" * 6),
    )
    never = dict(describe_model(adopted(), {})[""].rows)
    assert never["agreement"] == "never compared"


def test_what_axes_are(manifest):
    content = manifest.model_dump(mode="json")
    for wrong in ("LLS", "lps", "LP", "XYZ"):
        with pytest.raises(ValueError, match="are no axes"):
            type(manifest).model_validate({**content, "training_axes": wrong})
    known = type(manifest).model_validate({**content, "training_axes": "PIR"})
    assert known.training_axes == "PIR"
