"""The prepared store: what a subset model reads, what is checked, what happens to bad cases."""

import gzip
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import h5py
import numpy as np
import pytest

from vol3dseg import formats
from vol3dseg.config import Config, ModelConfig, load_config
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.reading import read_segmentation, read_volume
from vol3dseg.errors import DatasetError, OutputError, RecipeMismatch, StoreError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing import prepare_case
from vol3dseg.preprocessing.index import load_index, verify
from vol3dseg.preprocessing.prepare import Prepared
from vol3dseg.preprocessing.prepare import prepare as prepare_volume
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase, open_cases, write_case
from vol3dseg.quality.appearance import Appearance
from vol3dseg.space.box import Box, grid_boxes
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.volume import Volume


def prepare(folder, out, recipe, labels, **options):
    return preprocess(
        folder,
        out,
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
        **options,
    )


def shift_t1(folder):
    """Give each T1 a smaller non-zero box than its FLAIR, so that boxes of subsets differ."""
    for path in sorted(folder.rglob("*_t1.nii.gz")):
        array, geometry = formats.read_image(path)
        array[..., -6:] = 0
        array[:5] = 0
        nifti.write(path, array.astype(np.int16), geometry)


def take_enhancing_away(folder):
    path = folder / "Case_003" / "Case_003_seg.nii.gz"
    array, grid = formats.open_volume(path).labels()
    nifti.write(path, np.where(array == 4, 2, array).astype(np.uint8), grid)


@pytest.mark.parametrize("spacing", [None, (1.5, 0.8, 1.0)], ids=["own", "resampled"])
def test_subset_model_reads_what_it_would_have_read_alone(
    brats_folder, tmp_path, recipe, labels, spacing
):
    shift_t1(brats_folder)
    both = recipe.model_copy(update={"spacing_mm": spacing})
    index = prepare(brats_folder, tmp_path / "both", both, labels)
    alone = prepare(brats_folder, tmp_path / "alone", both.select(["t1"]), labels)
    for entry, own in zip(index.cases, alone.cases, strict=True):
        subset = StoredCase.open(tmp_path / "both", entry, ["t1"])
        single = StoredCase.open(tmp_path / "alone", own, ["t1"])
        assert subset.stored != subset.box
        assert subset.geometry == single.geometry
        assert subset.patches().tobytes() == single.patches().tobytes()
        for box in [*grid_boxes(subset.shape, (16, 16, 16), (8, 8, 8)), Box((-3,) * 3, (40,) * 3)]:
            for ours, theirs in zip(subset.read(box), single.read(box), strict=True):
                assert ours.tobytes() == theirs.tobytes()


def test_patch_table_counts_voxels_of_each_class(brats_folder, tmp_path, recipe, labels):
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    case = StoredCase.open(tmp_path / "out", index.cases[0], ["flair", "t1"])
    for *start, background, necrotic, edema, enhancing in case.patches().tolist():
        _, label = case.read(Box.at(tuple(start), (16, 16, 16)).intersection(Box.whole(case.shape)))
        counts = np.bincount(label.ravel(), minlength=4).tolist()
        assert counts == [background, necrotic, edema, enhancing]


def test_second_run_does_only_what_is_missing_or_changed(brats_folder, tmp_path, recipe, labels):
    out = tmp_path / "out"
    first = prepare(brats_folder, out, recipe, labels)
    before = {e.id: (out / e.file).stat().st_mtime_ns for e in first.cases}
    (out / first.cases[0].file).unlink()
    array, grid = formats.read_image(brats_folder / "Case_002" / "Case_002_t1.nii.gz")
    nifti.write(
        brats_folder / "Case_002" / "Case_002_t1.nii.gz", (array + 1).astype(np.int16), grid
    )
    second = prepare(brats_folder, out, recipe, labels)
    redone = [e.id for e in second.cases if (out / e.file).stat().st_mtime_ns != before[e.id]]
    assert redone == ["Case_001", "Case_002"]
    assert second.cases[0] == first.cases[0]
    assert second.cases[1].sha256 != first.cases[1].sha256


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda content: content[:-9] + b"!" + content[-8:], id="another byte"),
        pytest.param(lambda content: content[:99], id="cut off"),
        pytest.param(lambda content: content + b"!", id="longer"),
        pytest.param(lambda content: b"", id="empty"),
    ],
)
def test_running_preprocess_again_mends_a_store(brats_folder, tmp_path, recipe, labels, harm):
    out = tmp_path / "out"
    first = prepare(brats_folder, out, recipe, labels)
    path = verify(out, first.cases[0])
    whole = path.read_bytes()
    for number in (1, 2):
        path.write_bytes(harm(whole))
        with pytest.raises(StoreError, match="run preprocess again"):
            open_cases(out, first, ["Case_001"], ["t1"])
        second = prepare(brats_folder, out, recipe, labels)
        assert list(open_cases(out, second, ["Case_001"], ["t1"])) == ["Case_001"]
        assert verify(out, second.cases[0]).read_bytes() == whole
        # What lay there may be somebody's: it is kept, and named.
        aside = path.with_name(f"Case_001.set-aside-{number}.h5")
        assert aside.read_bytes() == harm(whole)
        assert aside.name in second.cases[0].notes[-1]


def test_contents_are_of_voxels_and_not_of_how_they_are_packed(
    brats_folder, tmp_path, recipe, labels, monkeypatch
):
    one = prepare(brats_folder, tmp_path / "one", recipe, labels).cases
    monkeypatch.setattr("vol3dseg.preprocessing.store._CHUNK", 8)
    two = prepare(brats_folder, tmp_path / "two", recipe, labels).cases
    assert {case.sha256 for case in one}.isdisjoint(case.sha256 for case in two)
    assert [case.contents for case in one] == [case.contents for case in two]
    take_enhancing_away(brats_folder)
    new = prepare(brats_folder, tmp_path / "new", recipe, labels).cases
    changed = [a.id for a, b in zip(one, new, strict=True) if a.contents != b.contents]
    assert changed == ["Case_003"]


def test_a_data_set_that_was_moved_is_not_prepared_again(brats_folder, tmp_path, recipe, labels):
    out = tmp_path / "out"
    before = mtimes(out, prepare(brats_folder, out, recipe, labels))
    moved = shutil.copytree(brats_folder, tmp_path / "moved", copy_function=shutil.copyfile)
    assert mtimes(out, prepare(moved, out, recipe, labels)) == before


def test_other_scans_of_the_same_names_sizes_and_times_are_prepared(
    brats_folder, tmp_path, recipe, labels
):
    """As archives unpack them: all of one time."""
    old, new = (shutil.copytree(brats_folder, tmp_path / name / "data") for name in "ab")
    swapped = [new / "Case_001" / f"Case_001_{kind}.nii" for kind in ("flair", "t1")]
    for folder in (old, new):
        for path in sorted(folder.rglob("*.nii.gz")):
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            path.unlink()
    contents = [path.read_bytes() for path in swapped]
    for path, content in zip(swapped, reversed(contents), strict=True):
        path.write_bytes(content)
    for path in [*old.rglob("*.nii"), *new.rglob("*.nii")]:
        os.utime(path, (1e9, 1e9))
    first = prepare(old, tmp_path / "out", recipe, labels)
    second = prepare(new, tmp_path / "out", recipe, labels)
    changed = [a.id for a, b in zip(first.cases, second.cases, strict=True) if a.sha256 != b.sha256]
    assert changed == ["Case_001"]


def test_a_scan_that_is_replaced_while_it_is_read_is_prepared_again(
    brats_folder, tmp_path, recipe, labels, monkeypatch
):
    def read_and_replace(case, modalities, *more):
        volume = read_volume(case, modalities)
        path = case.images["flair"].path
        array, grid = formats.read_image(path)
        nifti.write(path, (array * 2).astype(np.int16), grid)
        return volume

    monkeypatch.setattr(prepare_case, "read_volume", read_and_replace)
    first = prepare(brats_folder, tmp_path / "out", recipe, labels)
    monkeypatch.undo()
    second = prepare(brats_folder, tmp_path / "out", recipe, labels)
    for old, new in zip(first.cases, second.cases, strict=True):
        assert old.appearance != new.appearance


def test_a_case_that_fails_or_is_left_out_now_leaves_no_old_file(
    brats_folder, tmp_path, recipe, labels
):
    out = tmp_path / "out"
    prepare(brats_folder, out, recipe, labels)
    take_enhancing_away(brats_folder)
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    strict = labels.model_copy(update={"required": ("enhancing",)})
    index = prepare(brats_folder, out, recipe, strict)
    assert (list(index.left_out), list(index.failed)) == (["Case_003"], ["Case_002"])
    assert [p.name for p in (out / "cases").glob("[!.]*")] == ["Case_001.h5"]


def test_a_bad_case_is_named_and_the_others_go_on(brats_folder, tmp_path, recipe, labels):
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    with ThreadPoolExecutor(2) as pool:
        index = prepare(brats_folder, tmp_path / "out", recipe, labels, workers=pool)
    assert [e.id for e in index.cases] == ["Case_001", "Case_003"]
    assert "empty" in index.failed["Case_002"]
    assert sorted(p.name for p in (tmp_path / "out/cases").glob("[!.]*")) == [
        "Case_001.h5",
        "Case_003.h5",
    ]


def test_a_case_that_does_not_fit_into_memory_is_named_and_the_others_go_on(
    brats_folder, tmp_path, recipe, labels, monkeypatch
):
    def prepare_or_fail(volume, recipe, **more):
        if volume.geometry.affine[0, 3] == first.affine[0, 3]:
            raise MemoryError
        return prepare_volume(volume, recipe, **more)

    _, first = formats.read_image(brats_folder / "Case_001" / "Case_001_flair.nii.gz")
    monkeypatch.setattr(prepare_case, "prepare", prepare_or_fail)
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    assert [e.id for e in index.cases] == ["Case_002", "Case_003"]
    assert index.failed["Case_001"].startswith(
        "case Case_001: scan and results (preparing) do not fit"
    )


def test_a_bug_fails_its_case_with_its_traceback_and_the_others_go_on(
    brats_folder, tmp_path, recipe, labels, monkeypatch
):
    def prepare_or_fail(volume, recipe, **more):
        if volume.geometry.affine[0, 3] == first.affine[0, 3]:
            raise KeyError("of nobody")
        return prepare_volume(volume, recipe, **more)

    _, first = formats.read_image(brats_folder / "Case_001" / "Case_001_flair.nii.gz")
    monkeypatch.setattr(prepare_case, "prepare", prepare_or_fail)
    prepare(brats_folder, tmp_path / "out", recipe, labels)
    index = load_index(tmp_path / "out")
    assert [e.id for e in index.cases] == ["Case_002", "Case_003"]
    assert index.failed["Case_001"].startswith("case Case_001: preparing failed (KeyError: 'of")
    assert "in prepare_or_fail" in index.tracebacks["Case_001"]
    monkeypatch.undo()
    assert prepare(brats_folder, tmp_path / "out", recipe, labels).tracebacks == {}


def test_a_data_set_is_prepared_in_one_call(brats_folder, tmp_path, config_path):
    """As a program calls it: names of folders, a config by name or as it is, any executor."""
    said = []
    index = preprocess(
        str(brats_folder),
        str(tmp_path / "out"),
        str(config_path),
        progress=lambda outcome, total: said.append((outcome.case_id, total)),
    )
    assert said == [("Case_001", 3), ("Case_002", 3), ("Case_003", 3)]
    config = load_config(config_path)
    assert config == index.config
    with ThreadPoolExecutor(2) as pool:
        again = preprocess(find_cases(brats_folder)[1:], tmp_path / "other", config, pool)
    assert [e.sha256 for e in again.cases] == [e.sha256 for e in index.cases[1:]]


def test_missing_modality_and_missing_label(brats_folder, tmp_path, recipe, labels):
    (brats_folder / "Case_001" / "Case_001_t1.nii.gz").unlink()
    (brats_folder / "Case_002" / "Case_002_seg.nii.gz").unlink()
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    assert "t1 is missing" in index.failed["Case_001"]
    assert index.entry("Case_002").class_voxels is None


def test_cases_without_a_required_class_are_left_out(brats_folder, tmp_path, recipe, labels):
    take_enhancing_away(brats_folder)
    strict = labels.model_copy(update={"required": ("enhancing",)})
    index = prepare(brats_folder, tmp_path / "out", recipe, strict)
    assert list(index.left_out) == ["Case_003"]
    assert "required class enhancing" in index.left_out["Case_003"]


def mtimes(folder, index):
    return {e.id: (folder / e.file).stat().st_mtime_ns for e in index.cases}


def test_what_is_only_said_of_labels_may_change(brats_folder, tmp_path, recipe, labels):
    out = tmp_path / "out"
    before = mtimes(out, prepare(brats_folder, out, recipe, labels))
    said = labels.model_copy(
        update={
            "regions": {"all": labels.foreground},
            "classes": tuple(
                c.model_copy(update={"write": c.write and 9 + c.write, "codes": None})
                for c in labels.classes
            ),
        }
    )
    index = prepare(brats_folder, out, recipe, said)
    assert mtimes(out, index) == before
    assert index.labels == load_index(out).labels == said
    classes = list(labels.classes)
    classes[2] = classes[2].model_copy(update={"read": (2, 7)})
    other = labels.model_copy(update={"classes": tuple(classes)})
    with pytest.raises(StoreError, match=r"other labels: values.edema: \[2, 7\] and \[2\]"):
        prepare(brats_folder, out, recipe, other)


def test_required_classes_may_change_without_preparing_again(
    brats_folder, tmp_path, recipe, labels
):
    take_enhancing_away(brats_folder)
    out, strict = tmp_path / "out", labels.model_copy(update={"required": ("enhancing",)})
    first = mtimes(out, prepare(brats_folder, out, recipe, labels))
    index = prepare(brats_folder, out, recipe, strict)
    assert list(index.left_out) == ["Case_003"]
    assert "required class enhancing" in index.left_out["Case_003"]
    assert mtimes(out, index) == {"Case_001": first["Case_001"], "Case_002": first["Case_002"]}
    index = prepare(brats_folder, out, recipe, labels)
    assert index.left_out == {}
    assert mtimes(out, index)["Case_001"] == first["Case_001"]
    assert (out / index.entry("Case_003").file).is_file()


@pytest.mark.parametrize("spacing", [None, (1.5, 0.8, 1.0)], ids=["own", "resampled"])
def test_a_stored_case_gives_what_a_predictor_segments_and_the_labels_as_read(
    brats_folder, tmp_path, recipe, labels, spacing
):
    shift_t1(brats_folder)
    both = recipe.model_copy(update={"spacing_mm": spacing})
    index = prepare(brats_folder, tmp_path / "out", both, labels)
    case = find_cases(brats_folder)[0]
    volume = read_volume(case, ("t1",))
    ours = StoredCase.open(tmp_path / "out", index.cases[0], ["t1"]).prepared()
    theirs = prepare_volume(volume, both.select(["t1"]))
    assert ours.volume.array.tobytes() == theirs.volume.array.tobytes()
    assert (ours.volume.geometry, ours.source) == (theirs.volume.geometry, theirs.source)
    assert (ours.grid, ours.box, ours.boxes) == (theirs.grid, theirs.box, theirs.boxes)
    assert ours.appearance == theirs.appearance
    renamed = labels.model_copy(update={"regions": {}})
    found = StoredCase.open(tmp_path / "out", index.cases[0], ["t1"]).reference(renamed)
    read = read_segmentation(case, labels, volume.geometry)
    assert (found.array == read.array).all()
    assert found.geometry == read.geometry
    assert found.labels == renamed


def test_labels_outside_the_box_are_counted(brats_folder, tmp_path, recipe, labels):
    path = brats_folder / "Case_001" / "Case_001_seg.nii.gz"
    array, grid = formats.open_volume(path).labels()
    label = np.array(array)
    label[0, 0, :3] = 1
    nifti.write(path, label, grid)
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    assert index.entry("Case_001").labels_outside == 3
    assert index.entry("Case_001").labels_changed == 3
    assert index.entry("Case_002").labels_outside == 0


def test_another_recipe_is_refused_field_by_field(brats_folder, tmp_path, recipe, labels):
    prepare(brats_folder, tmp_path / "out", recipe, labels)
    other = recipe.model_copy(update={"crop": "none"})
    with pytest.raises(RecipeMismatch, match="crop: none and nonzero"):
        prepare(brats_folder, tmp_path / "out", other, labels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda p: p.unlink(), "is missing", id="missing"),
        pytest.param(lambda p: p.write_bytes(p.read_bytes()[:-10]), "has .* bytes", id="truncated"),
        pytest.param(
            lambda p: p.write_bytes(p.read_bytes()[:-1] + b"!"),
            "SHA-256.*; run preprocess again",
            id="one byte differs",
        ),
    ],
)
def test_a_damaged_case_is_refused_before_it_is_opened(
    brats_folder, tmp_path, recipe, labels, damage, message
):
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    damage(tmp_path / "out" / index.cases[0].file)
    with pytest.raises(StoreError, match=message):
        verify(tmp_path / "out", index.cases[0])


def test_a_foreign_or_damaged_index_is_refused(tmp_path, brats_folder, recipe, labels):
    with pytest.raises(StoreError, match="expected a folder made by vol3dseg preprocess"):
        load_index(tmp_path)
    prepare(brats_folder, tmp_path / "out", recipe, labels)
    path = tmp_path / "out" / "index.json"
    path.write_text(path.read_text().replace('"crop": "nonzero"', '"crop": "none"'))
    with pytest.raises(StoreError, match="fingerprint"):
        load_index(tmp_path / "out")
    path.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        load_index(tmp_path / "out")


def test_no_cases(tmp_path, recipe, labels):
    with pytest.raises(DatasetError, match="no cases"):
        preprocess([], tmp_path, Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)))


def test_a_write_that_fails_leaves_nothing(brats_folder, tmp_path, recipe, labels, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"Case_001\.h5: cannot be written \(No space left"):
        prepare(brats_folder, tmp_path / "out", recipe, labels)
    assert list((tmp_path / "out/cases").iterdir()) == []


def test_label_on_another_grid_is_refused(brats_folder, tmp_path, recipe, labels):
    path = brats_folder / "Case_001" / "Case_001_seg.nii.gz"
    array, grid = formats.open_volume(path).labels()
    moved = grid.affine.copy()
    moved[0, 3] += 5
    nifti.write(path, array, Geometry(grid.shape, moved))
    index = prepare(brats_folder, tmp_path / "out", recipe, labels)
    assert "different grids" in index.failed["Case_001"]
    shutil.rmtree(brats_folder)


def test_bytes_do_not_depend_on_when_python_lets_go_of_what_it_has_written(
    brats_folder, tmp_path, recipe, labels, monkeypatch
):
    made, kept = h5py.Group.create_dataset, []

    def create(*given, **named):
        kept.append(made(*given, **named))
        return kept[-1]

    prepare(brats_folder, tmp_path / "plain", recipe, labels)
    monkeypatch.setattr(h5py.Group, "create_dataset", create)
    prepare(brats_folder, tmp_path / "kept", recipe, labels)
    assert kept
    plain, others = (
        {entry.id: entry.sha256 for entry in load_index(tmp_path / name).cases}
        for name in ("plain", "kept")
    )
    assert plain == others


def test_what_a_case_takes_in_memory_is_that_of_image_and_label(
    brats_folder, tmp_path, recipe, labels
):
    index = prepare(brats_folder, tmp_path / "P", recipe, labels)
    case = StoredCase.open(tmp_path / "P", index.cases[0], ["t1", "flair"])
    image, label = case.read(Box.whole(case.shape))
    assert case.memory_bytes == image.nbytes + label.nbytes


def test_a_case_that_has_nothing_of_what_a_model_sees_is_refused(
    brats_folder, tmp_path, recipe, labels
):
    index = prepare(brats_folder, tmp_path / "P", recipe, labels)
    lacking = index.cases[0].model_copy(update={"missing": ("t1",)})
    assert StoredCase.open(tmp_path / "P", lacking, ["t1", "flair"]).missing == [0]
    with pytest.raises(StoreError, match=f"case {lacking.id}: has none of t1; expected at least"):
        StoredCase.open(tmp_path / "P", lacking, ["t1"])


@pytest.fixture
def stored(brats_folder, tmp_path, recipe, labels):
    """A case as it is stored, and its file opened anew each time."""
    index = prepare(brats_folder, tmp_path / "P", recipe, labels)
    return StoredCase.open(tmp_path / "P", index.cases[0], ["t1", "flair"])


def test_a_patch_is_that_of_the_whole_and_nothing_lies_around_it(stored):
    whole = stored.prepared().volume.array
    with h5py.File(stored.path) as file:
        for channel, name in enumerate(["t1", "flair"]):
            np.testing.assert_array_equal(whole[..., channel], file[f"image/{name}"][()])
        label = file["label"][()]
    i, j, k = stored.shape
    image, classes = stored.read(Box((-2, 1, 0), (i, j, k + 3)))
    np.testing.assert_array_equal(image[2:, :, :k], whole[:, 1:])
    np.testing.assert_array_equal(classes[2:, :, :k], label[:, 1:])
    for outside in (image[:2], image[:, :, k:], classes[:2], classes[:, :, k:]):
        assert not outside.any()


def test_what_is_of_no_class_may_count_as_one_within_the_scan(stored):
    box = Box((-2, 0, 0), stored.shape)
    label, changed = stored.read_label(box), replace(stored, background=9).read_label(box)
    np.testing.assert_array_equal(changed[2:], np.where(label[2:] == 0, 9, label[2:]))
    assert not changed[:2].any()


def test_patches_in_which_nothing_is_judged_are_left_out_unless_there_is_no_other(stored):
    table = stored.patches()
    with h5py.File(stored.path, "r+") as file:
        rows = file[f"patches/{stored.box}"]
        rows[0] = [*table[0, :3], *[0] * (table.shape[1] - 3)]
    np.testing.assert_array_equal(stored.patches(), table[1:])
    with h5py.File(stored.path, "r+") as file:
        rows = file[f"patches/{stored.box}"]
        rows[:, 3:] = 0
    np.testing.assert_array_equal(stored.patches()[:, :3], table[:, :3])
    assert not stored.patches()[:, 3:].any()


def test_arrays_are_packed_and_have_checksums(stored):
    with h5py.File(stored.path) as file:
        for name in ("image/flair", "image/t1", "label", "source_label"):
            array = file[name]
            assert (array.compression, array.compression_opts) == ("gzip", 1)
            assert array.fletcher32
        assert file[f"patches/{stored.box}"].fletcher32


def counted(shape):
    """A prepared scan of two modalities whose voxels count up from 0."""
    grid, whole = Geometry(shape, np.eye(4)), Box.whole(shape)
    array = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(*shape, 2)
    looks = Appearance(axes="RAS", spacing_mm=(1, 1, 1), size_mm=shape, modalities={}, pairs=())
    boxes = dict.fromkeys(("flair", "t1"), whole)
    return Prepared(Volume(array, grid, ("flair", "t1")), grid, grid, whole, boxes, looks)


def test_contents_of_the_same_voxels_are_the_same_in_every_version(tmp_path, recipe):
    """Else each new version would call what it finds changed."""
    found = write_case(tmp_path / "x.h5", "x", recipe, counted((2, 3, 4)), None)
    assert found == "e0fd3f0b01cccf61a81f9979df92e260229f90c75b49653440ab248a7c8441d3"


def test_chunks_are_thirty_two_voxels_long_at_most(tmp_path, recipe):
    write_case(tmp_path / "x.h5", "x", recipe, counted((40, 33, 4)), None)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["image/t1"].chunks == (32, 32, 4)
