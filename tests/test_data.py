"""What a run knows of its cases before it opens them; needs no TensorFlow."""

from pathlib import Path

import pytest

from vol3dseg.config import Config
from vol3dseg.datasets.signature import Signature
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.index import CaseEntry, Index
from vol3dseg.quality.appearance import Appearance
from vol3dseg.training.data import RunData, foreground_ml, labelled_subjects, require_classes

NOTHING = Appearance(axes="RAS", spacing_mm=(1, 1, 1), size_mm=(9, 9, 9), modalities={}, pairs=())


def entry(name, class_voxels, spacing_mm=(1.0, 1.0, 1.0)):
    return CaseEntry(
        id=name, subject=name[0], file=f"cases/{name}.h5", bytes=1, sha256="", contents="",
        sources=Signature(), shape=(9, 9, 9), source_shape=(9, 9, 9), source_spacing_mm=spacing_mm,
        class_voxels=class_voxels, appearance=NOTHING,
    )  # fmt: skip


@pytest.fixture
def index(recipe, labels):
    cases = (
        entry("a1", {"background": 900, "edema": 300, "enhancing": 200}, (1.0, 2.0, 5.0)),
        entry("a2", {"background": 900, "edema": 0, "enhancing": 0}),
        entry("b1", None),
    )
    config = Config(labels=labels, recipe=recipe)
    return Index(config=config, fingerprint=recipe.fingerprint, cases=cases)


def test_volumes_are_of_all_foreground_in_ml(index):
    assert foreground_ml(index) == pytest.approx({"a1": 500 * 10 / 1000, "a2": 0})


def test_cases_without_a_label_map_have_no_part(index):
    assert labelled_subjects(Path("P"), index) == {"a1": "a", "a2": "a"}


def test_a_folder_without_label_maps_is_refused(index):
    bare = index.model_copy(update={"cases": index.cases[2:]})
    with pytest.raises(StoreError, match=r"P: 1 of 1 prepared cases has no label map, and is not .*"
                       "learned from: b1; expected labelled cases .*; add label maps"):  # fmt: skip
        labelled_subjects(Path("P"), bare)


def test_cases_without_a_label_map_are_named(index):
    assert index.unlabelled == (
        "1 of 3 prepared cases has no label map, and is not learned from: b1"
    )
    assert index.outside == {"no label map": 1}
    likely = index.cases[2].model_copy(update={"likely_labels": ("b1/b1_mask.nii",)})
    told = index.model_copy(update={"cases": (*index.cases[:2], likely), "failed": {"c": "x"}})
    assert told.unlabelled == (
        "1 of 3 prepared cases has no label map, and is not learned from: b1; b1/b1_mask.nii may "
        "be meant, but must be named as the layout has it, or in the column label of a dataset "
        "table"
    )
    assert told.outside == {"no label map": 1, "failed": 1}
    assert told.unseen == (told.unlabelled, "1 failed in preprocess, and not learned from: c")
    assert not index.model_copy(update={"cases": index.cases[:2]}).unlabelled


def divided(index, train, validation=()):
    split = Split(train=train, validation=validation)
    cases = dict.fromkeys(validation)
    return RunData(index, split, {}, {}, {}, cases)


def test_a_class_that_no_training_case_has_is_refused_by_name(index):
    whole = dict.fromkeys(index.labels.names, 5)
    seen = index.model_copy(update={"cases": (*index.cases, entry("c1", whole))})
    with pytest.raises(StoreError, match=r"P: no training case has necrotic core, of 1; expected a "
                       r"case for each class.*split\.stratify"):  # fmt: skip
        require_classes(divided(seen, ("a1",)), Path("P"))
    with pytest.raises(StoreError, match="has necrotic core or edema or enhancing, of 1"):
        require_classes(divided(seen, ("a2",), ("c1",)), Path("P"))
    assert require_classes(divided(seen, ("a2", "c1")), Path("P")) == []


def test_a_class_that_no_validation_case_has_is_named(index):
    whole = dict.fromkeys(index.labels.names, 5)
    seen = index.model_copy(update={"cases": (*index.cases, entry("c1", whole))})
    assert require_classes(divided(seen, ("c1",), ("a1",)), Path("P")) == [
        "no validation case has necrotic core, so nothing says how well it is found"
    ]
    assert require_classes(divided(seen, ("c1", "a1"), ()), Path("P")) == []
