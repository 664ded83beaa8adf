"""`vol3dseg predict`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from vol3dseg.cli.options import PathType, output_option, progress_bar

if TYPE_CHECKING:
    from vol3dseg.datasets.case import Case
    from vol3dseg.inference.batch import CaseRecord, Draw

_DEVICES = ("auto", "cpu", "cuda", "openvino")


@click.command(short_help="Segment scans with an exported model.")
@click.argument("model", type=PathType)
@click.argument("inputs", type=PathType, nargs=-1, metavar="[INPUT]...")
@output_option("the folder of segmentations")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="MODALITY=FILE",
    help="One modality of one case; give it once per modality, instead of INPUT.",
)
@click.option("--id", "case_id", help="Name of the case given by --image.  [default: case]")
@click.option("--split", type=PathType, help="A split.json: only its cases.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(["train", "validation", "test"]),
    multiple=True,
    help="Only this part of --split; may be given again.  [default: all parts]",
)
@click.option("--device", type=click.Choice(_DEVICES), default="auto", show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads on the CPU.  [default: one per core]",
)
@click.option("--probabilities", is_flag=True, help="Write <id>_probabilities.nii.gz as well.")
@click.option(
    "--picture",
    is_flag=True,
    help="Write <id>.png as well, beside the case's own label map if it has one. Needs [report].",
)
@click.option(
    "--picture-modality",
    metavar="MODALITY",
    help="What the picture shows; implies --picture.  [default: the model's first]",
)
def predict(
    model: Path,
    inputs: tuple[Path, ...],
    output: Path,
    images: tuple[str, ...],
    case_id: str | None,
    split: Path | None,
    parts: tuple[str, ...],
    device: str,
    threads: int,
    probabilities: bool,
    picture: bool,
    picture_modality: str | None,
) -> None:
    """Segment scans with MODEL, an ONNX file made by vol3dseg export-onnx.

    INPUT is any of: a dataset folder in a known layout, the folder of one case, or, for a model of
    one modality, a NIfTI file. Writes OUTPUT/<id>.nii.gz on the grid of the source, and
    OUTPUT/predictions.json. Needs no TensorFlow.
    """
    if parts and split is None:
        raise click.UsageError("--part names a part of --split; give that as well")
    run_predict(
        model,
        Choice(inputs, images, case_id, split, parts),
        output,
        Manner(device, threads, probabilities, picture or bool(picture_modality), picture_modality),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which cases are segmented; see the options of the command."""

    inputs: Sequence[Path]
    images: Sequence[str] = ()
    case_id: str | None = None
    split: Path | None = None
    parts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """How they are segmented and what is written; see the options of the command."""

    device: str = "auto"
    threads: int = 0
    probabilities: bool = False
    picture: bool = False
    picture_modality: str | None = None


def run_predict(
    model_path: Path, choice: Choice, output: Path, manner: Manner | None = None
) -> None:
    """Segment in front of the user."""
    from vol3dseg.inference.batch import Record, predict_cases
    from vol3dseg.inference.manifest import provenance
    from vol3dseg.inference.model_file import read_model
    from vol3dseg.inference.predictor import Predictor
    from vol3dseg.inference.session import Device, OnnxBackend

    manner = manner or Manner()
    model = read_model(model_path)
    modalities = model.manifest.recipe.modalities
    cases = _chosen(choice, modalities)
    draw = _draw(modalities, manner.picture_modality) if manner.picture else None
    device: Device = next(d for d in get_args(Device) if d == manner.device)
    backend = OnnxBackend(model.content, device, manner.threads)
    click.echo(f"running on {backend.provider}")
    with progress_bar() as bar:
        task = bar.add_task("segmenting", total=len(cases))

        def advance(case_id: str, record: "CaseRecord") -> None:
            bar.advance(task)
            line = _line(case_id, record)
            bar.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

        predictor = Predictor(backend, model.manifest)
        records = predict_cases(cases, predictor, output, manner.probabilities, draw, advance)
    Record(
        model_sha256=model.sha256,
        fingerprint=model.manifest.fingerprint,
        provider=backend.provider,
        labels=model.manifest.labels,
        versions=provenance("onnxruntime", "onnxruntime-gpu", "numpy", "nibabel").versions,
        cases=records,
    ).save(output)
    failed = sum(bool(record.error) for record in records.values())
    click.echo(f"{len(records) - failed} cases segmented, {failed} failed -> {output}")
    if failed:
        sys.exit(1)


def _chosen(choice: Choice, modalities: Sequence[str]) -> "list[Case]":
    from vol3dseg.datasets.selection import gather_cases, one_case

    if bool(choice.images) == bool(choice.inputs):
        raise click.UsageError("give INPUT, or --image once per modality, and not both")
    if choice.images:
        cases = [one_case(choice.images, choice.case_id or "case")]
    else:
        cases = gather_cases(choice.inputs, modalities)
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

    from vol3dseg.evaluation.figures import new_figure
    from vol3dseg.evaluation.panel import save_case_panel

    if modality is not None and modality not in modalities:
        raise click.UsageError(
            f"--picture-modality {modality}: the model's are {', '.join(modalities)}"
        )
    new_figure(1, 1)
    return partial(save_case_panel, modality=modality or modalities[0])


def _line(case_id: str, record: "CaseRecord") -> str:
    if record.error:
        return f"failed: {case_id}: {record.error}"
    found = ", ".join(f"{name} {ml:.2f} ml" for name, ml in record.volumes_ml.items())
    note = f"; {record.picture_note}" if record.picture_note else ""
    return f"{case_id}: {found} ({sum(record.seconds.values()):.1f} s){note}"
