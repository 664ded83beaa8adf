"""`vol3dseg info` prints a page that people read; `--json` prints all there is."""

import json

import numpy as np
import onnx
import pytest

from vol3dseg.cli.predict import _line
from vol3dseg.config import load_config
from vol3dseg.datasets.signature import Signature
from vol3dseg.errors import ModelError, RunError
from vol3dseg.inference.record import CaseRecord
from vol3dseg.model.manifest import Parity
from vol3dseg.model.model_file import Described, describe, read_model, with_manifest
from vol3dseg.model.validation_scores import ValidationScores
from vol3dseg.preprocessing.index import CaseEntry, Index
from vol3dseg.quality.appearance import measure_appearance
from vol3dseg.quality.training_data import describe_data
from vol3dseg.reporting.self_description import tables_of
from vol3dseg.space.geometry import Geometry

GRID = Geometry((12, 10, 8), np.diag([1.0, 1.0, 2.5, 1.0]))


@pytest.fixture(scope="module")
def appearances():
    rng = np.random.default_rng(0)
    images = ({m: rng.random(GRID.shape, np.float32) for m in ("flair", "t1")} for _ in range(40))
    return [measure_appearance(each, GRID) for each in images]


@pytest.fixture
def run(tmp_path, manifest, appearances, labels):
    volumes_ml = {name: [1.0, 2.0, 4.0] for name in labels.foreground}
    facts = {
        "training_data": describe_data(appearances[:20], appearances[20:], volumes_ml),
        "validation": ValidationScores(cases=7, dice={"edema": 0.8125}, mean_dice=0.8125),
        "parity": Parity(
            patches=4, max_abs_difference=2e-6, label_agreement=1, tolerance=1e-4,
            norms_spelled_out=0,
        ),
    }  # fmt: skip
    text = manifest.model_copy(update=facts).model_dump_json()
    (tmp_path / "manifest.json").write_text(text)
    return tmp_path


@pytest.fixture
def prepared(tmp_path, appearances):
    config = load_config("crops32")
    counts = dict.fromkeys(config.labels.names, 400) | {"edema": 0}
    cases = [
        CaseEntry(
            id=f"Case_{number:03}", subject=f"S{number // 2}", file="x", bytes=10**6,
            sha256="0" * 64, contents="0" * 64, sources=Signature(), shape=GRID.shape,
            source_shape=GRID.shape,
            source_spacing_mm=GRID.spacing_mm, appearance=appearance,
            class_voxels=counts if number else None,
            repairs=("an affine",) if number == 7 else (),
        )
        for number, appearance in enumerate(appearances)
    ]  # fmt: skip
    out = {"Case_900": "lacks the required class edema"}
    Index(config=config, fingerprint=config.recipe.fingerprint, cases=cases, left_out=out).save(
        tmp_path
    )
    return tmp_path


def readable(page, most):
    """Nothing of Python or JSON, nothing wider than a terminal, not long."""
    assert len(page) < most
    assert not set("{}'\"") & set(page.split("\n", 1)[1])
    assert max(map(len, page.splitlines()[1:])) <= 80


def row(page, name):
    """The cells of a row of a table."""
    (line,) = (each for each in page.splitlines() if each.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_of_a_run(vol3dseg, run):
    page = vol3dseg("info", run).stdout
    readable(page, 9000)
    assert "the 20 training scans".lower() in page.lower()
    assert "mean Dice 0.8125 on 7 whole scans" in page
    assert row(page, "flair and t1 swapped")[0].endswith("%")
    assert "Edema" in row(page[page.index("Classes") :].split("What is known")[0], "edema")
    assert row(page[page.index("What is known") :], "edema") == ["0.8125", "2 (1 to 4)"]


def test_of_forty_prepared_cases(vol3dseg, prepared):
    page = vol3dseg("info", prepared).stdout
    readable(page, 6000)
    assert "40 of 20 subjects, 39 with a label map" in page
    known = page[page.index("What is known") :]
    assert row(known, "edema") == ["0 of 40", ""]
    assert row(known, "necrotic core") == ["39 of 40", "1 (1 to 1)"]
    assert row(known, "Case_007") == ["repaired: an affine"]
    assert row(known, "Case_900") == ["left out: lacks the required class edema"]
    whole = json.loads(vol3dseg("info", prepared, "--json").stdout)
    assert len(whole["cases"]) == 40


def test_of_many_warnings_of_a_case_one_is_printed():
    said = _line("a", CaseRecord(warnings=("unlike", "odd", "strange"))).splitlines()
    assert said[1:] == ["  warning: unlike (and 2 more, in predictions.json)"]
    assert _line("a", CaseRecord(warnings=("unlike",))).endswith("  warning: unlike")


def test_of_a_standalone_graph_and_an_average(manifest):
    call = {
        "inputs": ["flair", "t1"], "axes": "RAS", "output": "labels",
        "values": {"background": 0, "edema": 2},
    }  # fmt: skip
    several = manifest.model_copy(update={"members": manifest.members * 3})
    facts = {"bytes": 10**6, "sha256": "ab" * 32, "standalone": call}
    tables = tables_of(Described("standalone model", several, facts))
    said = dict(tables[""].rows)
    assert said["called with"] == "flair, t1; axes closest to RAS"
    assert said["gives"] == "labels: background 0, edema 2"
    assert len(tables["Where the weights come from"].rows) == 3


def test_an_unfinished_run_is_called_so(run):
    (run / "manifest.json").unlink()
    (run / "training.log").write_text("epoch,loss\n")
    with pytest.raises(RunError, match="an unfinished run; finish it with vol3dseg train"):
        describe(run)


def test_a_prepared_folder_says_what_lies_in_it(prepared):
    found = describe(prepared)
    assert found.kind == "prepared folder"
    assert len(found.content.cases) == 40


def test_a_folder_of_others_is_nothing_of_ours(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match="nothing of vol3dseg's; expected an ONNX model, a run"):
        describe(tmp_path)


def test_a_run_knows_its_split_and_folds_what_any_has_learned_from(run):
    split = {"train": ["a", "b"], "validation": ["z"], "test": []}
    assert describe(run).document["split"] == {"train": []}
    (run / "split.json").write_text(json.dumps(split))
    one = describe(run)
    assert one.kind == "run"
    assert one.document["split"]["train"] == ["a", "b"]
    (run / "split.json").unlink()
    for fold, cases in {"fold-1": ["c", "a"], "fold-2": ["b", "a"]}.items():
        (run / fold).mkdir()
        (run / fold / "split.json").write_text(json.dumps(split | {"train": cases}))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["members"] *= 2
    (run / "manifest.json").write_text(json.dumps(manifest))
    folds = describe(run)
    assert folds.kind == "cross-validation of 2 networks"
    assert folds.document["split"] == {"train": ["a", "b", "c"]}


def test_a_model_says_what_it_is(manifest, model_path):
    assert describe(model_path).kind == "model"
    model = read_model(model_path)
    two = manifest.model_copy(update={"members": manifest.members * 2})
    model_path.write_bytes(with_manifest(onnx.load_from_string(model.content), two))
    found = describe(model_path)
    assert found.kind == "model, the average of 2 networks"
    assert found.facts["bytes"] == model_path.stat().st_size
    assert "trusted_by" not in found.document
