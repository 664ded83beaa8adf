"""Names of values in dataset.json, for looking at a data set; values by themselves elsewhere."""

import json
import shutil

import numpy as np
import pytest

from vol3dseg import formats
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.layouts.label_names import named_labels
from vol3dseg.reporting.drawing_files import draw_files
from vol3dseg.space.geometry import Geometry


@pytest.mark.parametrize(
    ("stated", "names"),
    [
        pytest.param({"0": "background", "2": "Post", "1": "Ant"}, {1: "Ant", 2: "Post"}, id="MSD"),
        pytest.param({"background": 0, "PZ": 1, "TZ": 7}, {1: "PZ", 7: "TZ"}, id="nnU-Net"),
        pytest.param({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": [3]},
                     {1: "value 1", 2: "value 2", 3: "active"}, id="regions"),
        pytest.param({"1": "a", "2": "a"}, None, id="one name twice"),
        pytest.param(["a"], None, id="no names"),
        pytest.param({"a": "b"}, None, id="no values"),
        pytest.param({}, None, id="nothing"),
    ],
)  # fmt: skip
def test_what_is_stated(tmp_path, stated, names):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": stated}))
    found = named_labels(tmp_path)
    assert (found and {c.read[0]: c.name for c in found.classes[1:]}) == names


@pytest.mark.parametrize("text", ["", "[]", "{", '{"labels": null}'])
def test_what_is_no_description_names_nothing(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    assert named_labels(tmp_path, tmp_path / "nowhere") is None


class TestShow:
    @pytest.fixture
    def drawn(self, tmp_path, monkeypatch):
        """Draw a label map of 1 and 3, and a reference of 1 and 2; return the classes of both."""
        pytest.importorskip("matplotlib")
        grid = Geometry((9, 8, 7), np.eye(4))
        values = np.zeros(grid.shape, np.uint8)
        values[2:5, 2:5, 2:5], values[3, 3, 3] = 1, 3
        formats.write(tmp_path / "imagesTr/a.nii.gz", values.astype(np.float32), grid)
        formats.write(tmp_path / "labelsTr/a.nii.gz", values, grid)
        formats.write(tmp_path / "b.nii.gz", np.where(values == 3, 2, values), grid)
        seen = []
        monkeypatch.setattr(
            "vol3dseg.reporting.drawing_files.save_overlay",
            lambda path, volume, *maps: seen.extend(m.labels.foreground for m in maps[:2] if m),
        )

        def draw(*references):
            image, label = (tmp_path / f"{kind}Tr/a.nii.gz" for kind in ("images", "labels"))
            draw_files(image, label, tmp_path / "o.png", *references)
            return seen

        return draw

    def test_a_plain_mask(self, drawn):
        assert drawn() == [("value 1", "value 3")]

    def test_beside_a_reference(self, drawn, tmp_path):
        assert drawn(tmp_path / "b.nii.gz") == [("value 1", "value 2", "value 3")] * 2

    def test_names_of_its_data_set(self, drawn, tmp_path):
        (tmp_path / "dataset.json").write_text('{"labels": {"a": 1, "b": 2, "c": 3}}')
        assert drawn(tmp_path / "b.nii.gz") == [("a", "b", "c")] * 2


def test_inspect_names_classes(vol3dseg, shared_brats_folder, tmp_path):
    pytest.importorskip("PIL")
    named = {"channel_names": {"0": "T1"}, "labels": {"necrosis": 1, "edema": 2, "rim": 4}}
    (tmp_path / "dataset.json").write_text(json.dumps(named))
    for case in find_cases(shared_brats_folder):
        for place, file in (("images", case.images["t1"].path), ("labels", case.label)):
            (tmp_path / f"{place}Tr").mkdir(exist_ok=True)
            end = "_0000.nii.gz" if place == "images" else ".nii.gz"
            shutil.copy(file, tmp_path / f"{place}Tr" / f"{case.id}{end}")
    done = vol3dseg("inspect", tmp_path, "-o", tmp_path / "I", "-j", 1)
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "I/cases.csv").read_text().splitlines()[0]
    assert ",necrosis_ml,edema_ml,rim_ml," in header
