"""What `vol3dseg predict` does in front of the user."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vol3dseg.cli.options import about_case, progress_bar

if TYPE_CHECKING:
    from vol3dseg.datasets.case import Case
    from vol3dseg.inference.outputs import DicomSeg, Draw, Wanted
    from vol3dseg.inference.predictor import Predictor
    from vol3dseg.inference.record import CaseRecord, Record
    from vol3dseg.model.model_file import ModelFile

SEG = "dicom-seg"  # a format of label maps alone


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cases are segmented; see the options of the command."""

    inputs: Sequence[Path]
    images: Sequence[str] = ()
    case_id: str | None = None
    split: Path | None = None
    parts: Sequence[str] = ()
    repair: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the network runs on; see the options of the command."""

    device: str = "auto"
    precision: str = "float32"
    threads: int = 0
    max_memory_mb: float | None = None
    exact: bool = False
    overlap: float | None = None


@dataclass(frozen=True, slots=True)
class Manner:
    """What is written, and what is left as it is; see the options of the command."""

    probabilities: bool = False
    picture: bool = False
    picture_modality: str | None = None
    resume: bool = False
    format_name: str | None = None
    deidentify: bool = False


def run_predict(
    model_path: Path,
    choice: Choice,
    output: Path,
    runtime: Runtime | None = None,
    manner: Manner | None = None,
) -> None:
    """Segment in front of the user."""
    from vol3dseg.formats import FORMATS
    from vol3dseg.inference.batch import predict_cases
    from vol3dseg.inference.outputs import Wanted
    from vol3dseg.inference.record import Record

    runtime, manner = runtime or Runtime(), manner or Manner()
    model, predictor, provider = _load(model_path, runtime)
    modalities = model.manifest.recipe.modalities
    cases = _chosen(choice, modalities)
    draw = _draw(modalities, manner.picture_modality) if manner.picture else None
    chosen = next((f for f in FORMATS if f.name == manner.format_name), None)
    # Whoever limits the memory has none for the next case.
    ahead, seg = runtime.max_memory_mb is None, _seg(model, model_path, manner)
    wanted = Wanted(manner.probabilities, draw, ahead, chosen, seg)
    record = Record.of(model, provider)
    if manner.resume:
        record, cases = _resumed(record, cases, output, wanted, modalities)
    with progress_bar() as bar:
        task = bar.add_task("segmenting", total=len(cases))

        def advance(case_id: str, record: "CaseRecord") -> None:
            bar.advance(task)
            line = _line(case_id, record)
            bar.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

        records = predict_cases(cases, predictor, output, record, wanted, advance).cases
    failed = sum(bool(records[case.id].error) for case in cases)
    noun = "case" if len(cases) - failed == 1 else "cases"
    unlike = sum(bool(records[case.id].warnings) for case in cases)
    warned = f" ({unlike} with warnings)" if unlike else ""
    click.echo(f"{len(cases) - failed} {noun} segmented{warned}, {failed} failed -> {output}")
    if failed:
        sys.exit(1)


def _seg(model: "ModelFile", path: Path, manner: Manner) -> "DicomSeg | None":
    """Return how DICOM-SEG is written, if it is asked for."""
    from vol3dseg.formats.dicom.seg_writing import Algorithm
    from vol3dseg.inference.outputs import DicomSeg

    if manner.format_name != SEG:
        return None
    return DicomSeg(Algorithm(path.stem, model.sha256[:12]), manner.deidentify)


def run_explain(model_path: Path, choice: Choice, runtime: Runtime) -> None:
    """Tell how each case would be computed."""
    from vol3dseg.datasets.reading import read_volume
    from vol3dseg.errors import Vol3dSegError
    from vol3dseg.preprocessing.prepare import prepare

    model, predictor, _ = _load(model_path, runtime)
    recipe, failed = model.manifest.recipe, False
    for case in _chosen(choice, recipe.modalities):
        try:
            prepared = prepare(read_volume(case, recipe.modalities), recipe)
            plan = predictor.plan(prepared.volume.geometry, prepared.source)
        except Vol3dSegError as error:
            failed = True
            click.echo(f"{case.id}: cannot be segmented: {error}")
            continue
        size = "x".join(map(str, plan.shape))
        seconds = predictor.expected_seconds(plan)
        click.echo(f"{case.id}: {size} voxels after preparing: {plan}, about {seconds:.1f} s")
        for warning in predictor.warnings(prepared.appearance):
            click.echo(f"  warning: {warning}")
    if failed:
        sys.exit(1)


def _load(model_path: Path, runtime: Runtime) -> "tuple[ModelFile, Predictor, str]":
    from vol3dseg.inference.loading import make_predictor
    from vol3dseg.inference.runtimes.session import DEVICES, PRECISIONS, open_session
    from vol3dseg.machine import limit_cores
    from vol3dseg.model.model_file import read_model

    if runtime.threads:
        limit_cores(runtime.threads)  # for reading, preparing and writing as well
    model = read_model(model_path)
    device = next(d for d in DEVICES if d == runtime.device)
    precision = next(p for p in PRECISIONS if p == runtime.precision)
    lean = runtime.max_memory_mb is not None
    session = open_session(model.content, device, runtime.threads, precision, lean)
    click.echo(f"running on {session.provider}")
    if model.manifest.training_data is not None:
        for note in model.manifest.training_data.notes:
            click.echo(f"note: {note}")
    predictor = make_predictor(
        model, session, runtime.max_memory_mb, runtime.threads, runtime.exact, runtime.overlap
    )
    return model, predictor, session.provider


def _resumed(
    record: "Record",
    cases: "Sequence[Case]",
    output: Path,
    wanted: "Wanted",
    modalities: Sequence[str],
) -> "tuple[Record, list[Case]]":
    """Return the record with what is complete, and the cases that are not."""
    from vol3dseg.inference.record import RECORD_NAME, load_record

    if not (output / RECORD_NAME).exists():
        return record, list(cases)
    before = load_record(output)
    before.require_same_model(record, output)
    complete = {
        c.id: before.cases[c.id]
        for c in cases
        if before.is_complete(c, output, modalities)
        and before.cases[c.id].file == wanted.label_file(c)
        and before.cases[c.id].deidentified == wanted.deidentified
    }
    click.echo(f"{len(complete)} of {len(cases)} cases are complete")
    resumed = record.model_copy(update={"cases": complete})
    return resumed, [case for case in cases if case.id not in complete]


def _chosen(choice: Choice, modalities: Sequence[str]) -> "list[Case]":
    from vol3dseg.datasets.case import allow_repairs
    from vol3dseg.datasets.selection import gather_cases, one_case

    if bool(choice.images) == bool(choice.inputs):
        raise click.UsageError("give INPUT, or --image once per modality, and not both")
    if choice.images:
        cases = [one_case(choice.images, choice.case_id or "case")]
    else:
        cases = gather_cases(choice.inputs, modalities)
    cases = allow_repairs(cases, choice.repair)
    return cases if choice.split is None else _cases_of(cases, choice.split, choice.parts)


def _cases_of(cases: "Sequence[Case]", split: Path, parts: Sequence[str]) -> "list[Case]":
    """Return the cases of the named parts of a split, or of all parts that have any."""
    from vol3dseg.datasets.selection import only_part
    from vol3dseg.datasets.splits import PARTS, read_split
    from vol3dseg.errors import DatasetError

    read = read_split(split)
    filled = [part for part in PARTS if read.part(part)]
    if not filled:
        raise DatasetError(f"{split}: all parts are empty; expected case ids in at least one")
    return [
        case for part in dict.fromkeys(parts or filled) for case in only_part(cases, split, part)
    ]


def _draw(modalities: Sequence[str], modality: str | None) -> "Draw":
    """Return what draws a case; a missing matplotlib is said before the first case."""
    from functools import partial

    from vol3dseg.reporting.figures import new_figure
    from vol3dseg.reporting.overlay import save_case_overlay

    if modality is not None and modality not in modalities:
        raise click.UsageError(
            f"--picture-modality {modality}: the model's are {', '.join(modalities)}"
        )
    new_figure(1, 1)
    return partial(save_case_overlay, modality=modality or modalities[0])


def _line(case_id: str, record: "CaseRecord") -> str:
    if record.error:
        return "\n".join(f"failed: {about_case(case_id, e)}" for e in record.error.splitlines())
    found = ", ".join(f"{name} {ml:.2f} ml" for name, ml in record.volumes_ml.items())
    note = f"; {record.picture_note}" if record.picture_note else ""
    for modality, count in record.replaced.items():
        note += f"; {count} voxels of {modality} were NaN or infinite and were replaced"
    line = f"{case_id}: {found} ({sum(record.seconds.values()):.1f} s){note}"
    more = [f"  repaired: {repair}" for repair in record.repairs]
    return "\n".join([line, *more, *(f"  warning: {warning}" for warning in record.warnings)])
