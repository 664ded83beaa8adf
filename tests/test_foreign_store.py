"""HDF5 files that come from anywhere: examined in a child, refused in one line, never followed."""

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from vol3dseg.config import Config, ModelConfig
from vol3dseg.errors import StoreError
from vol3dseg.preprocessing.examination import CaseFile, flaw, flaws
from vol3dseg.preprocessing.index import load_index, verify
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import StoredCase, open_cases
from vol3dseg.written import sha256_file

pytestmark = pytest.mark.hostile

NAMES = ("flair", "t1")
REMEDY = (
    "; expected a case as vol3dseg preprocess writes it; prepare into a new folder, and "
    "do not open the file with other programs"
)


@pytest.fixture
def prepared(brats_folder, tmp_path, recipe, labels):
    """A prepared folder of three cases."""
    folder = tmp_path / "prepared"
    preprocess(
        brats_folder,
        folder,
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    return folder


def path_of(prepared):
    index = load_index(prepared)
    return prepared / index.cases[1].file


def reindexed(prepared):
    """Give the index the size and hash that the second case has now, as whoever forges it would."""
    index = load_index(prepared)
    path = path_of(prepared)
    forged = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    cases = list(index.cases)
    cases[1] = cases[1].model_copy(update=forged)
    index.model_copy(update={"cases": tuple(cases)}).save(prepared)
    return load_index(prepared)


def opened(prepared):
    index = reindexed(prepared)
    return open_cases(prepared, index, [entry.id for entry in index.cases], NAMES)


def test_cases_as_they_were_written_are_opened(prepared):
    cases = opened(prepared)
    assert list(cases) == ["Case_001", "Case_002", "Case_003"]
    for case in cases.values():
        assert case.patches().shape[1] == 7


def test_a_case_without_labels_is_opened(brats_folder, tmp_path, recipe, labels):
    for path in brats_folder.rglob("*_seg.nii.gz"):
        path.unlink()
    index = preprocess(
        brats_folder,
        tmp_path / "out",
        Config(labels=labels, recipe=recipe, model=ModelConfig(depth=1)),
    )
    assert len(open_cases(tmp_path / "out", index, [e.id for e in index.cases], NAMES)) == 3


# ---------------------------------------------------------------- files that reach elsewhere


def image_of(file):
    image = file["image/t1"][()]
    box = file["image/t1"].attrs["box"]
    del file["image/t1"]
    return image, box


def link_to_a_file(file, other):
    del file["label"]
    file["label"] = h5py.ExternalLink(str(other), "image/t1")


def link_within(file, other):
    file.move("label", "image/label")
    file["label"] = h5py.SoftLink("/image/label")


def stored_elsewhere(file, other):
    image, box = image_of(file)
    place = [(str(other), 0, image.nbytes)]
    file.create_dataset("image/t1", image.shape, np.float32, external=place).attrs["box"] = box


def virtual(file, other):
    image, box = image_of(file)
    layout = h5py.VirtualLayout(image.shape, np.float32)
    layout[:] = h5py.VirtualSource(str(other), "image/t1", image.shape)
    file.create_virtual_dataset("image/t1", layout).attrs["box"] = box


def bomb(file, other):
    del file["label"]
    file.create_dataset("label", (100_000,) * 3, np.uint8, chunks=(32,) * 3, compression="gzip")


def hollow(file, other):
    """The shape that the index says, and no voxels."""
    shape = file["label"].shape
    del file["label"]
    file.create_dataset("label", shape, np.uint8, chunks=(8,) * 3, compression="gzip")


def huge_portions(file, other):
    image, box = image_of(file)
    made = file.create_dataset(
        "image/t1", data=image, chunks=(512,) * 3, maxshape=(None,) * 3, compression="gzip"
    )
    made.attrs["box"] = box


def objects(file, other):
    del file["label"]
    file.create_dataset("label", (2, 2, 2), h5py.string_dtype())


def other_packing(file, other):
    label = file["label"][()]
    del file["label"]
    file.create_dataset("label", data=label, chunks=(8,) * 3, compression="lzf")


def one_piece(file, other):
    label = file["label"][()]
    del file["label"]
    file["label"] = label


def named_type(file, other):
    file["type"] = np.dtype("f8")


def more_data(file, other):
    file["image/other"] = np.zeros(3)


def more_attributes(file, other):
    file["label"].attrs["more"] = 1


def number_for_text(file, other):
    del file.attrs["recipe"]
    file.attrs["recipe"] = 3


def long_text(file, other):
    file["image/t1"].attrs["box"] = "0" * 2**21


def wide_affine(file, other):
    file.attrs["grid_affine"] = np.eye(9)


def lacking(file, other):
    del file["image/t1"]


def no_labels_as_read(file, other):
    del file["source_label"]


def smaller_labels_as_read(file, other):
    labels = file["source_label"][1:]
    del file["source_label"]
    file.create_dataset("source_label", data=labels, chunks=(8,) * 3, compression="gzip")


def circular(file, other):
    file["image/again"] = file["image"]


ODD = [
    pytest.param(link_to_a_file, "holds a link", id="external link"),
    pytest.param(link_within, "holds a link", id="soft link"),
    pytest.param(stored_elsewhere, "stores voxels in another file", id="external storage"),
    pytest.param(virtual, "stores voxels in another file", id="virtual dataset"),
    pytest.param(bomb, "holds a dataset of uint8 of (100000, 100000, 100000)", id="shape bomb"),
    pytest.param(hollow, "lacks some of its chunks", id="no voxels"),
    pytest.param(huge_portions, "stores voxels in other chunks", id="huge chunks"),
    pytest.param(objects, "holds a dataset of another type of (2, 2, 2)", id="object type"),
    pytest.param(other_packing, "compresses voxels in another way", id="another filter"),
    pytest.param(one_piece, "stores voxels in other chunks", id="contiguous"),
    pytest.param(named_type, "holds an object that is neither", id="named type"),
    pytest.param(more_data, "holds more than images", id="one dataset more"),
    pytest.param(more_attributes, "has other attributes", id="one attribute more"),
    pytest.param(number_for_text, "has an attribute that is not text", id="number for text"),
    pytest.param(long_text, "has an attribute that is longer", id="long text"),
    pytest.param(wide_affine, "has an attribute of another type or shape", id="wide affine"),
    pytest.param(lacking, "lacks an image", id="no image"),
    pytest.param(no_labels_as_read, "lacks an image or a label map", id="no labels as read"),
    pytest.param(smaller_labels_as_read, "holds a dataset of uint8 of (23, 20, 18)", id="cut"),
    pytest.param(circular, "holds more than images", id="circular"),
]


@pytest.mark.parametrize(("change", "message"), ODD)
def test_foreign_files_are_refused_in_one_line(prepared, tmp_path, change, message):
    other = tmp_path / "secret"
    other.write_bytes(b"hunter2:x:" * 100_000)
    with h5py.File(path_of(prepared), "r+") as file:
        change(file, other)
    with pytest.raises(StoreError) as caught:
        opened(prepared)
    told = str(caught.value)
    assert told.startswith(f"{path_of(prepared)}: {message}")
    assert told.endswith(REMEDY)
    assert told.isprintable()
    assert "hunter2" not in told


def test_a_file_that_claims_another_grid_than_the_index_is_refused(prepared):
    with h5py.File(path_of(prepared), "r+") as file:
        file.attrs["source_shape"] = (10**6,) * 3
    with pytest.raises(StoreError, match=r"holds .* of \(1000000, 1000000, 1000000\); expected"):
        opened(prepared)


def test_external_storage_would_be_read_by_whoever_opens_it(prepared, tmp_path):
    """Why there is an examination: h5py itself reads any file without a word."""
    other = tmp_path / "secret"
    other.write_bytes(b"hunter2:x:" * 100_000)
    with h5py.File(path_of(prepared), "r+") as file:
        stored_elsewhere(file, other)
    with h5py.File(path_of(prepared)) as file:
        assert file["image/t1"][()].tobytes().startswith(b"hunter2:x:")


def test_a_claim_beyond_the_room_is_refused_even_if_the_index_claims_it(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("label", (100_000,) * 3, np.uint8, chunks=(32,) * 3, compression="gzip")
        for name in ("case", "recipe", "box"):
            file.attrs[name] = ""
        for name, value in (("shape", np.ones(3, int)), ("affine", np.eye(4))):
            file.attrs[f"grid_{name}"] = file.attrs[f"source_{name}"] = value
    words = flaw(CaseFile(str(path), (), (100_000,) * 3, (1, 1, 1), 7))
    assert words == "claims (100000, 100000, 100000) values, more than the file can hold"


def test_an_index_that_names_files_elsewhere_is_refused(prepared):
    index = load_index(prepared)
    for name in ("../x.h5", "/etc/passwd"):
        entry = index.cases[0].model_copy(update={"file": name})
        with pytest.raises(StoreError, match="names a file outside of the folder"):
            verify(prepared, entry)


# ---------------------------------------------------------------- files that harm their reader


def tasks_of(prepared):
    index = load_index(prepared)
    return [
        CaseFile(str(prepared / e.file), NAMES, e.shape, e.source_shape, 7) for e in index.cases
    ]


def child(code):
    """A child that is ready, then does something else."""
    return (sys.executable, "-c", f"import os, time; print('\"ready\"', flush=True); {code}")


def test_a_file_that_ends_its_reader_is_named_and_the_others_are_examined(prepared):
    tasks = tasks_of(prepared)
    code = "print('\"\"', flush=True); os.abort()"
    assert flaws(tasks[:2], child=child(code)) == [
        "",
        "ends the process that examines it, or takes more than 10 s",
    ]


def test_a_file_that_takes_too_long_is_given_up(prepared):
    first, second, _ = tasks_of(prepared)
    Path(first.path).unlink()
    os.mkfifo(first.path)  # whoever opens it waits for ever
    assert flaws([first, second], seconds=1) == [
        "ends the process that examines it, or takes more than 1 s",
        "",
    ]


def test_a_child_that_does_not_start_is_a_bug(prepared):
    with pytest.raises(RuntimeError, match="no such thing"):
        flaws(tasks_of(prepared), child=(sys.executable, "-c", "raise OSError('no such thing')"))


def test_harmed_files_are_refused_or_opened(prepared):
    whole, rng = path_of(prepared).read_bytes(), np.random.default_rng(0)
    _, task, _ = tasks_of(prepared)
    tasks = []
    for number in range(150):
        harmed = bytearray(whole)
        # Most of a file is voxels, whose harm is for their checksum: aim at what is around them.
        for _ in range(rng.integers(1, 4)):
            harmed[rng.integers(rng.choice([96, 4096, len(whole)]))] = rng.integers(256)
        path = prepared / f"{number}.h5"
        path.write_bytes(harmed[: rng.integers(len(whole))] if number % 10 == 0 else harmed)
        tasks.append(replace(task, path=str(path)))
    found = flaws(tasks)
    assert all(words.isprintable() for words in found)
    assert "" in found
    assert any(found)
    for one, words in zip(tasks, found, strict=True):
        if not words:
            try_to_read(Path(one.path), load_index(prepared).cases[1])


def try_to_read(path, entry):
    """What is left of harm that a structure does not show is an error of ours as well."""
    with suppress(StoreError):
        StoredCase.open(path.parent, entry.model_copy(update={"file": path.name}), NAMES).patches()
