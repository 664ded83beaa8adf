"""What can be said of pictures without looking at them: size, sides, colours, refusals."""

import subprocess
import sys

import numpy as np
import pytest

from vol3dseg.datasets.splits import Split
from vol3dseg.errors import MissingExtraError, OutputError, RunError

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.image import imread

from vol3dseg.reporting import figures
from vol3dseg.reporting.figures import (
    COLOURS,
    class_colour,
    read_log,
    save_figure,
    save_split,
)

ONE = Split(train=("a",))
SPLITS = [
    pytest.param({"train": (*"abcde",), "validation": (*"fg",), "test": ("h",)}, id="three parts"),
    pytest.param({"train": (*"abcde",), "validation": (), "test": ()}, id="one part"),
    pytest.param({"train": (), "validation": (), "test": ()}, id="no cases"),
]


@pytest.mark.parametrize("parts", SPLITS)
def test_each_part_has_its_share_of_the_bar(parts, tmp_path):
    save_split(tmp_path / "split.png", Split(**parts), dict.fromkeys("abcdefgh", 1.0))
    picture = imread(tmp_path / "split.png")[..., :3]
    colours = [np.array(to_rgb(colour)) for colour in COLOURS[: len(parts)]]
    masks = [np.abs(picture - colour).max(axis=2) < 0.02 for colour in colours]
    bar = np.sum(masks, axis=(0, 2)).argmax()  # the row with most colour
    total = max(sum(map(len, parts.values())), 1)
    for mask, ids in zip(masks, parts.values(), strict=True):
        assert mask[bar].mean() == pytest.approx(0.9 * len(ids) / total, abs=0.05)


VOLUMES = [
    pytest.param([1.0, 2.0, 3.0, 2.5, 1.5, 2.0, 1.0, 3.0], "linear", id="alike"),
    pytest.param([0.1, 2.0, 30.0, 250.0, 1.5, 2.0, 1.0, 3.0], "log", id="of all sizes"),
    pytest.param([0.0, 2.0, 30.0, 250.0, 1.5, 2.0, 1.0, 3.0], "symlog", id="one is empty"),
    pytest.param([0.0] * 8, "linear", id="all are empty"),
]


@pytest.mark.parametrize(("volumes", "scale"), VOLUMES)
@pytest.mark.parametrize("parts", SPLITS)
def test_split_with_volumes(parts, volumes, scale, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: shown.append(figure))
    of_case = dict(zip("abcdefgh", volumes, strict=True))
    save_split(tmp_path / "split.png", Split(**parts), of_case)
    boxes = shown[0].axes[1]
    points = [sorted(y for _, y in c.get_offsets().tolist()) for c in boxes.collections]
    assert points == [sorted(of_case[i] for i in ids) for ids in parts.values() if ids]
    medians = [text.get_text() for text in boxes.get_xticklabels()]
    assert [m.split(",")[0] for m in medians] == [name for name, ids in parts.items() if ids]
    if len(parts["train"]) == 5:
        assert boxes.get_yscale() == scale
        assert f"median {sorted(volumes[:5])[2]:.4g} ml" in medians[0]
        low, high = boxes.get_ylim()
        assert low <= min(volumes[:5])
        assert high >= max(volumes[:5])
    save_figure(shown[0], tmp_path / "split.png")


def test_a_log_of_nothing_is_refused(tmp_path):
    (tmp_path / "training.log").write_text("")
    with pytest.raises(RunError, match=r"training\.log: holds no epoch"):
        read_log(tmp_path / "training.log")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"split\.png: cannot be written"):
        save_split(tmp_path / "file" / "split.png", ONE, {"a": 1.0})


def test_pictures_leave_pyplot_alone(tmp_path):
    code = f"""
import sys
from pathlib import Path
from vol3dseg.datasets.splits import Split
from vol3dseg.reporting.figures import save_split
save_split(Path({str(tmp_path)!r}) / "split.png", Split(train=["a"]), {{"a": 1.0}})
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_matplotlib_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'vol3dseg\[report\]'"):
        save_split(tmp_path / "split.png", ONE, {"a": 1.0})


def test_no_two_of_fourteen_classes_have_one_colour():
    assert len({class_colour(number) for number in range(2 * len(COLOURS))}) == 2 * len(COLOURS)
    assert class_colour(1) == pytest.approx(to_rgb(COLOURS[1]))
