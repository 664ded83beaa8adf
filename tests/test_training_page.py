"""The page of a training: what it says after each epoch, and the slice that it shows."""

import math
import re
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import small_config
from vol3dseg.preprocessing.index import load_index
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.preprocessing.store import open_cases
from vol3dseg.reporting.strip import Slice, Strip, is_kept, typical_case
from vol3dseg.reporting.training_page import Standing, Subject, best_epoch, training_page
from vol3dseg.space.box import Box
from vol3dseg.space.geometry import Geometry

pytest.importorskip("PIL")

HOSTILE = "</style><script>document.title='!'</script><img src=x onerror=alert(1)>\"'&"


def shown(case="Case_1", shape=(8, 6, 4)):
    """A slice in which class 1 is a square."""
    label = np.zeros(shape, np.uint8)
    label[2:4, 2:4] = 1
    image = np.zeros((*shape, 1), np.float32)
    grey = np.linspace(0, 255, shape[0] * shape[1]).reshape(shape[1::-1]).astype(np.uint8)
    grid = Geometry(shape, np.eye(4))
    return Slice(case, "flair", "axial", 2, image, Box.whole(shape), label, grid, grey)


def subject(classes=("edema",), validated=True, **changed):
    values = {
        "title": "run", "settings": ("12 training and 3 validation cases",), "classes": classes,
        "validated": validated, "best_by": "val_loss" if validated else None, "shown": shown(),
    }  # fmt: skip
    return Subject(**values | changed)


def standing(done, epochs=100, ended=""):
    moment = datetime(2024, 2, 29, 12, 0, 0).timestamp()
    return Standing(done, epochs, 12.5 if done else None, "20 min" * bool(done), ended, moment)


def log_of(epochs, classes=("edema",), validated=True):
    falling = [1 / epoch for epoch in range(1, epochs + 1)]
    names = ["loss", "dice", *(f"dice_{name}" for name in classes)]
    prefixes = ("", "val_") if validated else ("",)
    log = {prefix + name: falling for prefix in prefixes for name in names}
    return log | {"learning_rate": [1e-3] * epochs}


def strip_of(epochs):
    strip, picture = Strip(), shown().draw(shown().reference)
    for epoch in range(1, epochs + 1):
        strip = strip.then(epoch, picture)
    return strip


def captions(html):
    return re.findall("<figcaption>([^<]*)</figcaption></figure>", html)


# --- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "epochs"),
    [(0, []), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (20, [1, 2, 4, 8, 16, 20])],
)
def test_the_page_after_some_epochs(done, epochs, browse, tmp_path):
    log = log_of(done) if done else {}
    html = training_page(subject(), standing(done), log, strip_of(done))
    assert captions(html) == ["flair", "reference", *(f"epoch {epoch}" for epoch in epochs)]
    assert f"{done} of 100 epochs" in html
    assert ("20 min left" in html) == ("12.5 s" in html) == (done > 0)
    assert html.count('<svg class="chart"') == (4 if done else 0)
    assert "12 training and 3 validation cases" in html
    assert "2024-02-29 12:00:00" in html
    if done:
        assert f"best epoch {done} (val_loss {1 / done:.4f})" in html
        assert f"edema {1 / done:.4f}</li>" in html
    (tmp_path / "page.html").write_text(html, "utf-8")
    dom, console = browse(tmp_path / "page.html")
    assert not console
    assert "<title>Training of run</title>" in dom
    assert re.search('id="silent"[^>]*>', dom)[0].find("hidden") < 0  # written long ago


def test_a_page_that_has_ended_stays_as_it_is(browse, tmp_path):
    html = training_page(subject(), standing(3, 3, "Finished: well."), log_of(3), strip_of(3))
    (tmp_path / "page.html").write_text(html, "utf-8")
    dom, console = browse(tmp_path / "page.html")
    assert not console
    assert "Finished: well." in dom
    assert "left" not in dom.split("<h2>")[0].split("<body>")[1]
    assert 'data-running=""' in dom
    assert "hidden" in re.search('id="silent"[^>]*>', dom)[0]


@pytest.mark.parametrize(("ended", "waits"), [("", "30000"), ("Finished.", "Training of run")])
def test_only_a_page_of_a_training_that_runs_loads_itself_again(ended, waits, browse, tmp_path):
    html = training_page(subject(), standing(1, ended=ended), log_of(1), strip_of(1))
    clock = "<script>window.setTimeout = (f, ms) => { document.title = ms; }</script><body>"
    (tmp_path / "page.html").write_text(html.replace("<body>", clock), "utf-8")
    dom, _ = browse(tmp_path / "page.html")
    assert re.search("<title>(.*)</title>", dom)[1] == waits
    assert "setTimeout(() => location.reload()" in html


def test_names_are_shown_as_they_are(browse, tmp_path):
    told = subject((HOSTILE,), title=HOSTILE, settings=(HOSTILE,), shown=shown(HOSTILE))
    html = training_page(
        told, standing(1, ended=HOSTILE), log_of(1, [HOSTILE.lower()]), strip_of(1)
    )
    (tmp_path / "page.html").write_text(html, "utf-8")
    dom, console = browse(tmp_path / "page.html")
    assert not console
    assert "<title>Training of &lt;/style&gt;" in dom
    assert dom.count("<script>") == 1


def test_no_validation_part_is_said_and_shows_training_patches():
    html = training_page(subject(validated=False), standing(2), log_of(2, validated=False), Strip())
    assert "the training case Case_1, which the network learns from" in html
    assert "there is no validation part" in html
    assert "Dice of each class, training patches" in html
    assert "validation patches" not in html
    assert "best epoch" not in html


def test_values_that_are_no_numbers_leave_gaps():
    log = log_of(4) | {"loss": [math.nan] * 4, "val_volume_dice": [math.nan, 0.5, math.nan, 0.6]}
    html = training_page(subject(best_by="val_volume_dice"), standing(4), log, Strip())
    assert not re.search(r"\bnan\b", html.split("What it sees")[0])
    assert "best epoch 4 (val_volume_dice 0.6000)" in html
    assert "whole volumes 0.6000" in html


@pytest.mark.parametrize(
    ("values", "measure", "best"),
    [
        ([3, 1, 1, 2], "val_loss", 2),
        ([3, math.nan, -math.inf], "val_loss", 1),
        ([0.1, 0.5, 0.5, math.nan], "val_volume_dice", 2),
        ([math.nan], "val_loss", None),
        ([], "val_loss", None),
    ],
)
def test_the_best_epoch_is_the_first_of_equals(values, measure, best):
    assert best_epoch({measure: values}, measure) == best


def test_a_long_training_of_many_classes_stays_small():
    classes, rng = [f"class{number}" for number in range(20)], np.random.default_rng(0)
    log = {name: rng.random(1000).tolist() for name in log_of(1, classes)}
    noise = rng.integers(0, 256, (176, 176)).astype(np.uint8)
    told = subject(classes, shown=shown(shape=(176, 176, 4)))
    told = subject(
        classes, shown=Slice(*[getattr(told.shown, n) for n in Slice.__slots__[:-1]], noise)
    )
    strip = Strip()
    for epoch in range(1, 1001):
        if is_kept(epoch) or epoch == 1000:
            strip = strip.then(epoch, told.shown.draw(None))
    assert len(strip.predictions) == 11
    html = training_page(told, standing(1000, 1000), log, strip)
    assert len(html.encode()) < 2**20


def test_lines_and_words_stand_out_in_light_and_in_dark(browse, tmp_path):
    """By the contrast that WCAG 2 asks for: 3 of lines, 4.5 of text."""
    classes = [f"class{number}" for number in range(7)]
    html = training_page(subject(classes), standing(3), log_of(3, classes), strip_of(3))
    probe = """<script>
    const key = {polyline: "stroke", text: "fill", P: "color", BODY: "backgroundColor"};
    const seen = [document.body, ...document.querySelectorAll(".chart polyline, .chart text, p")];
    document.title = seen.map(e => getComputedStyle(e)[key[e.tagName]]).join(";")</script>"""
    (tmp_path / "page.html").write_text(html.replace("</body>", probe + "</body>"), "utf-8")
    papers = []
    for options in ((), ("--blink-settings=preferredColorScheme=0",)):
        dom, _ = browse(tmp_path / "page.html", *options)
        colours = [luminance(c) for c in re.search("<title>(.*)</title>", dom)[1].split(";")]
        paper, *others = colours
        papers.append(paper)
        ratios = [(max(c, paper) + 0.05) / (min(c, paper) + 0.05) for c in others]
        assert len(ratios) > 30
        assert min(ratios) > 2.4  # yellow on white is what it is
    assert papers[1] < 0.05 < 0.9 < papers[0]


def luminance(colour):
    """Of a colour as Chromium prints it: rgb(0 to 255), or color(srgb 0 to 1)."""
    parts = [float(part) for part in re.findall(r"[0-9.]+(?:e-?[0-9]+)?", colour)[:3]]
    share = [part if colour.startswith("color") else part / 255 for part in parts]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in share]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


# --- the slice ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(shared_brats_folder, tmp_path_factory, recipe):
    folder = tmp_path_factory.mktemp("page") / "prepared"
    preprocess(shared_brats_folder, folder, small_config(recipe))
    return folder


@pytest.mark.parametrize("side", [4, 16, 64])
def test_the_slice_is_that_which_shows_most_and_lies_in_its_patch(side, prepared, recipe):
    index = load_index(prepared)
    names = tuple(entry.id for entry in index.cases)
    (case,) = open_cases(prepared, index, names[:1], recipe.modalities).values()
    found = Slice.of("x", case, (side,) * 3, 4)
    assert found.image.shape == (side, side, side, 2)
    assert found.inside.shape == found.reference.shape == found.geometry.shape
    whole = case.read_label(Box.whole(case.shape))
    axis = np.argmax(np.abs(found.geometry.affine[2, :3]))
    areas = [[np.count_nonzero(p == c) for c in (1, 2, 3)] for p in np.moveaxis(whole, axis, 0)]
    shares = (np.array(areas) / np.max(areas, axis=0)).sum(axis=1)
    at = np.linalg.inv(case.geometry.affine) @ found.geometry.affine @ [0, 0, 0, 1]
    place = round(at[axis]) + (
        found.at
        if found.geometry.affine[2, axis] > 0
        else found.geometry.shape[axis] - 1 - found.at
    )
    assert shares[place] == shares.max()
    assert found.draw(found.reference) != found.draw(None)
    assert found.draw(None).startswith(b"RIFF")


def test_the_case_is_a_middling_one_with_all_classes(prepared):
    index = load_index(prepared)
    names = tuple(entry.id for entry in index.cases)
    volumes = dict(zip(names, (3.0, 1.0, 2.0), strict=True))
    assert typical_case(names, index, volumes) == names[2]
    rich = index.cases[1]
    poor = {e.id: e.model_copy(update={"class_voxels": {"edema": 5}}) for e in index.cases}
    only = SimpleNamespace(entry={**poor, rich.id: rich}.__getitem__)
    assert typical_case(names, only, volumes) == rich.id
