"""Configs and records of commands, small and whole, and what is done with each."""

from pathlib import Path

import numpy as np

from tests.conftest import make_manifest
from tests.fuzzing.sample import Sample
from vol3dseg.config import Config, dump_config, load_config
from vol3dseg.datasets.signature import Signature
from vol3dseg.datasets.splits import PARTS, Split, read_split
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.record import RECORD_NAME, CaseRecord, Record, load_record
from vol3dseg.model.model_file import describe
from vol3dseg.model.postprocessing import Change, FillHoles, KeepLargest, RemoveSmall
from vol3dseg.model.provenance import Provenance
from vol3dseg.preprocessing.index import FILE_NAME, CaseEntry, Index
from vol3dseg.quality.appearance import measure_appearance
from vol3dseg.reporting.comparison.runs import read_run
from vol3dseg.reporting.score_files import SUMMARY_NAME, read_part
from vol3dseg.space.geometry import Geometry
from vol3dseg.training.auditing import audit

PROVENANCE = Provenance(created="2026-01-01T00:00:00+00:00", versions={}, git_revision=None)
_SHAPE = (6, 5, 4)
STEPS = (
    KeepLargest(of="enhancing", becomes="necrotic core"),
    RemoveSmall(of="whole tumour", volume_ml=0.5, becomes="background"),
    FillHoles(of="edema", becomes="edema"),
)
_SOURCES = Signature(seen="0" * 64, content="1" * 64)
_LOG = "epoch,loss,val_dice,val_loss\n0,1.5,0.25,1.25\n1,0.75,NA,0.5\n"
_SCORES = (
    '{"format": "vol3dseg.scores", "version": 3, "empty_masks": {"rule": "undefined"}, "pooled": '
    '{"core": 0.5}, "references": {"a": "0", "b": "1"}, '
    '"scores": {"a": {"core": {"dice": 0.5}}, "b": {"core": {"dice": null}}}}'
)


def record_samples() -> tuple[Sample, ...]:
    """What preprocess, train, predict and evaluate leave, and the config that they begin with."""
    config = load_config("crops32")
    manifest = make_manifest(config.recipe, config.labels)
    manifest = manifest.model_copy(update={"provenance": PROVENANCE, "postprocessing": STEPS})
    split = Split(train=("a", "b"), validation=("c",), test=("d",)).model_dump_json()
    record = Record.of(manifest, Origin("model", "0" * 64, "nothing"))
    made = CaseRecord(
        file="a.nii.gz", sha256="2" * 64, sources=_SOURCES, volumes_ml={"edema": 1.5},
        seconds={"read": 0.5}, peak_mb=99.5, planned_mb=98.0, plan="one pass",
        changes=(Change(step=1, what="holes of edema", pieces=1, voxels=3),),
    )  # fmt: skip
    record = record.with_cases({"a": made, "b": CaseRecord(error="b: no")})
    run = {
        "config.yaml": dump_config(config), "manifest.json": manifest.model_dump_json(),
        "split.json": split, "training.log": _LOG,
    }  # fmt: skip
    return (
        _sample("config", {"config.yaml": dump_config(config)}, "config.yaml"),
        _sample("index", {FILE_NAME: _index(config).model_dump_json()}),
        _sample("predictions", {RECORD_NAME: record.model_dump_json()}),
        _sample("scores", {SUMMARY_NAME: _SCORES}),
        _sample("split", {"split.json": split}, "split.json"),
        _sample("run", run),
    )


def use(path: Path) -> None:
    """Read what a command would, and work with it as far as words go."""
    if path.name == "config.yaml":
        config = load_config(path)
        dump_config(config)
        config.model_recipe.fingerprint  # noqa: B018 - it is made of the values
    elif path.name == "split.json":
        split = read_split(path)
        [split.part(name) for name in PARTS]
    elif (path / RECORD_NAME).exists():
        record = load_record(path)
        [record.is_there(case_id, path) for case_id in record.cases]
    elif (path / SUMMARY_NAME).exists():
        scores = read_part(path, "test")
        scores.only(scores.cases, scores.structures)
    elif (path / "training.log").exists() or (path / "split.json").exists():
        audit(path)
        describe(path)
        read_run(path)
    else:
        audit(path)
        describe(path)


def _sample(name: str, files: dict[str, str], opened: str = "") -> Sample:
    return Sample(name, {file: text.encode() for file, text in files.items()}, opened)


def _index(config: Config) -> Index:
    rng, grid = np.random.default_rng(0), Geometry(_SHAPE, np.eye(4))
    images = {
        name: rng.normal(100, 20, _SHAPE).astype(np.float32) for name in config.recipe.modalities
    }
    entry = CaseEntry(
        id="a", subject="a", file="cases/a.h5", bytes=1000, sha256="3" * 64,
        contents="4" * 64, sources=_SOURCES, shape=_SHAPE,
        source_shape=_SHAPE, source_spacing_mm=(1.0, 1.0, 2.0),
        class_voxels={label.name: 30 for label in config.labels.classes},
        appearance=measure_appearance(images, grid),
    )  # fmt: skip
    facts = {"config": config, "fingerprint": config.recipe.fingerprint, "cases": (entry,)}
    return Index(**facts, left_out={"b": "no label"}, failed={"c": "no"})
