"""What a prediction may write over, and what it may not."""

import os
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.signature import is_current, signature
from vol3dseg.inference.batch import predict_cases
from vol3dseg.inference.outputs import Wanted
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import load_record

MODALITIES = ("flair", "t1")


@pytest.fixture
def predictor(manifest):
    def background(patches):
        score = np.zeros((len(patches), len(manifest.labels.names), *patches.shape[2:]), np.float32)
        score[:, 0] = 1
        return score

    return Predictor(background, manifest)


@pytest.mark.parametrize("name", ["{}.nii.gz", "{}_probabilities.nii.gz", "{}.png"])
def test_a_scan_is_never_written_over(name, predictor, record, brats_folder):
    case = find_cases(brats_folder)[0]
    scan = case.images["flair"].path
    taken = scan.rename(scan.with_name(name.format(case.id)))
    images = {**case.images, "flair": type(case.images["flair"])(taken)}
    content = taken.read_bytes()
    moved = type(case)(case.id, case.subject, images)
    record = predict_cases([moved], predictor, scan.parent, record).cases[case.id]
    assert f"{taken.name}: is a file of case {case.id}" in record.error
    assert "choose another output folder" in record.error
    assert taken.read_bytes() == content


def test_a_new_segmentation_keeps_no_picture_of_an_older_one(
    predictor, record, brats_folder, tmp_path
):
    folder = tmp_path / "out"
    cases = find_cases(brats_folder)[:1]
    wanted = Wanted(probabilities=True, draw=lambda path, *_: path.write_bytes(b"") or "")
    predict_cases(cases, predictor, folder, record, wanted)
    names = {path.name.removeprefix(cases[0].id) for path in folder.iterdir()}
    assert names == {".nii.gz", "_probabilities.nii.gz", ".png", "predictions.json"}
    predict_cases(cases, predictor, folder, record)
    names = {path.name.removeprefix(cases[0].id) for path in folder.iterdir()}
    assert names == {".nii.gz", "predictions.json"}


def test_a_case_that_fails_is_named_and_the_rest_goes_on(predictor, record, brats_folder, tmp_path):
    (brats_folder / "Case_002" / "Case_002_t1.nii.gz").write_bytes(b"")
    cases = find_cases(brats_folder)
    found = predict_cases(cases, predictor, tmp_path / "out", record)
    assert [bool(found.cases[case.id].error) for case in cases] == [False, True, False]
    assert "the file is empty" in found.cases["Case_002"].error
    assert load_record(tmp_path / "out") == found


@pytest.mark.parametrize("ahead", [True, False])
def test_reading_ahead_changes_nothing(ahead, predictor, record, brats_folder, tmp_path):
    cases = find_cases(brats_folder)
    found = predict_cases(cases, predictor, tmp_path, record, Wanted(ahead=ahead))
    assert list(found.cases) == [case.id for case in cases]
    for case in cases:
        assert found.is_complete(case, tmp_path, MODALITIES)


def test_complete_is_what_is_there_byte_for_byte(predictor, record, brats_folder, tmp_path):
    cases = find_cases(brats_folder)
    found = predict_cases(cases, predictor, tmp_path, record)
    (tmp_path / "Case_001.nii.gz").unlink()
    (tmp_path / "Case_002.nii.gz").write_bytes(b"else")
    complete = [found.is_complete(case, tmp_path, MODALITIES) for case in cases]
    assert complete == [False, False, True]
    assert not found.is_complete(replace(cases[2], id="Case_004"), tmp_path, MODALITIES)
    assert load_record(tmp_path).is_complete(cases[2], tmp_path, MODALITIES)


@pytest.mark.parametrize(("given", "other"), [("x.hdr", "x.img"), ("x.img", "x.hdr"),
                                              ("x.mhd", "x.raw"), ("x.nhdr", "y.raw")])  # fmt: skip
def test_a_file_in_two_parts_is_made_of_both(tmp_path, given, other):
    texts = {
        "x.mhd": "NDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nBinaryData = True\n"
        "ElementDataFile = x.raw\n",
        "x.nhdr": "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 1\nencoding: raw\n"
        "data file: y.raw\n",
    }
    for name in (given, other):
        (tmp_path / name).write_text(texts.get(name, "0"))
    case = Case("x", "x", {"flair": ImageSource(tmp_path / given)}, tmp_path / given)

    def now():
        image = signature(case, ("flair",), with_label=False)
        label = signature(case, (), with_label=True)
        return [image, label, signature(case, ("flair",), with_label=True)]

    before = now()
    assert now() == before
    assert len({*before, ""}) == 4
    (tmp_path / other).write_text("other")
    assert len({*now(), *before, ""}) == 7
    (tmp_path / other).unlink()
    assert now() == [""] * 3


def test_complete_is_what_is_made_of_the_same_files_read_alike(
    predictor, record, brats_folder, tmp_path
):
    case = find_cases(brats_folder)[0]
    found = predict_cases([case], predictor, tmp_path, record)

    def complete(changed=case):
        return found.is_complete(changed, tmp_path, MODALITIES)

    flair = case.images["flair"]
    for change in ({"nan": 0.0}, {"channel": 0}, {"series": "1"}, {"onto": case.images["t1"]}):
        other = replace(case, images={**case.images, "flair": replace(flair, **change)})
        assert not complete(other), change
    assert complete(replace(case, label=None))  # which no prediction looks at
    assert complete()
    assert flair.path.name not in (tmp_path / "predictions.json").read_text()
    times = flair.path.stat()
    os.utime(flair.path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert not complete()
    flair.path.unlink()
    assert signature(case, MODALITIES, with_label=False) == ""
    assert not complete()


def test_what_was_made_by_a_repair_is_current_only_where_repairs_are_allowed(brats_folder):
    case = find_cases(brats_folder)[0]
    sources = signature(case, MODALITIES, with_label=True)
    for repairs, allowed in product(((), ("mended",)), (False, True)):
        made = SimpleNamespace(sources=sources, repairs=repairs)
        current = is_current(made, replace(case, repair=allowed), MODALITIES, with_label=True)
        assert current == (allowed or not repairs)
    unknown = SimpleNamespace(sources="", repairs=())
    for path in case.paths:
        path.unlink()
    assert not is_current(unknown, case, MODALITIES, with_label=True)
