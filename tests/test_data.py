"""What a run knows of its cases before it opens them; needs no TensorFlow."""

import hashlib
from pathlib import Path

import pytest

from vol3dseg.config import Config
from vol3dseg.datasets.signature import Signature
from vol3dseg.datasets.splits import Split
from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.index import CaseEntry, Index, load_index, verify
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


def test_several_cases_without_label_maps_are_told_in_the_plural(index):
    told = index.model_copy(update={"cases": (*index.cases, entry("b2", None))})
    assert told.unlabelled == (
        "2 of 4 prepared cases have no label map, and are not learned from: b1, b2"
    )


def test_what_cases_lack_is_counted_in_the_order_of_the_recipe(index):
    assert index.missing == {}
    assert index.incomplete == ()
    first, second = index.recipe.modalities[:2]
    changes = [{"missing": (second,)}, {"missing": (first, second), "unannotated": ("edema",)}]
    lacking = [e.model_copy(update=c) for e, c in zip(index.cases, changes, strict=False)]
    told = index.model_copy(update={"cases": (*lacking, index.cases[2])})
    assert list(told.missing.items()) == [(first, 1), (second, 2)]
    assert told.incomplete == (
        f"1 of 3 prepared cases lack {first}",
        f"2 of 3 prepared cases lack {second}",
        "in 1 of 3 nobody has looked for edema",
    )


def test_what_should_be_looked_at_is_said_of_a_case(index):
    first, empty, unlabelled = index.cases
    assert first.warnings == unlabelled.warnings == ()
    assert empty.warnings == ("its label map is empty; its patches show only background",)
    (said,) = first.model_copy(update={"labels_outside": 7}).warnings
    assert said.startswith("7 labelled voxels lie outside the non-zero box and are lost")


def test_volumes_are_of_the_classes_that_were_looked_for(index):
    seen = index.cases[0].model_copy(update={"unannotated": ("edema",)})
    assert seen.volumes_ml == pytest.approx({"background": 9.0, "enhancing": 2.0})
    assert index.cases[2].volumes_ml == {}


def test_a_case_stands_once_in_an_index(index, tmp_path):
    again = index.model_copy(update={"cases": (*index.cases, index.cases[0])})
    again.save(tmp_path)
    twice = (tmp_path / "index.json").read_text()
    line = next(line for line in twice.splitlines() if '"id":"a1"' in line).rstrip(",")
    (tmp_path / "index.json").write_text(twice.replace('"cases": [', f'"cases": [{line},', 1))
    with pytest.raises(StoreError, match="cases a1 are there twice"):
        load_index(tmp_path)


def test_further_cases_are_written_among_the_others_by_name(index, tmp_path):
    a1, a2, b1 = index.cases
    known = index.model_copy(update={"cases": (b1, a1)})
    known.save(tmp_path, {"a2": a2.model_dump_json()})
    assert load_index(tmp_path).cases == (a1, a2, b1)


@pytest.mark.parametrize("file", ["../a1.h5", "/a1.h5", "cases/../../a1.h5"])
def test_a_case_outside_of_the_folder_is_not_opened(index, tmp_path, file):
    (tmp_path / "P").mkdir()
    (tmp_path / "a1.h5").write_bytes(b"x")
    outside = index.cases[0].model_copy(update={"file": file})
    with pytest.raises(StoreError, match="names a file outside of the folder"):
        verify(tmp_path / "P", outside)


def test_a_case_is_the_one_that_was_written(index, tmp_path):
    path = tmp_path / "cases" / "a1.h5"
    path.parent.mkdir()
    path.write_bytes(b"voxels")
    digest = hashlib.sha256(b"voxels").hexdigest()
    written = index.cases[0].model_copy(update={"bytes": 6, "sha256": digest})
    assert verify(tmp_path, written) == path
    path.write_bytes(b"vowels")
    with pytest.raises(StoreError, match="has another SHA-256; expected the 6 bytes"):
        verify(tmp_path, written)
    path.write_bytes(b"more voxels")
    with pytest.raises(StoreError, match="has 11 bytes; expected the 6 bytes"):
        verify(tmp_path, written)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        verify(tmp_path, written)


def test_a_recipe_that_was_changed_by_hand_is_refused(index, tmp_path):
    index.model_copy(update={"fingerprint": "0" * 64}).save(tmp_path)
    with pytest.raises(StoreError, match="the recipe does not match its fingerprint"):
        load_index(tmp_path)


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
