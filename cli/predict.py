"""`vol3dseg predict`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vol3dseg.cli.options import (
    PathType,
    SizeType,
    about_case,
    command,
    output_option,
    progress_bar,
    repair_option,
    workers_option,
)
from vol3dseg.cli.signing_options import trusted_option
from vol3dseg.inference import DEVICES, FORMAT_NAMES, LAYOUTS, PRECISIONS, SEG, TILES

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from vol3dseg.inference.output_files import Draw, PredictOptions
    from vol3dseg.inference.predicting import Inputs
    from vol3dseg.inference.predictor import Predictor
    from vol3dseg.inference.record import CaseRecord
    from vol3dseg.recipe import ModelRecipe

flag = partial(click.option, is_flag=True)


@command(short_help="Segment scans with an exported model.")
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
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="auto: CUDA, else OpenVINO, else onnxruntime on the CPU, by what is installed.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="What the network computes in; bfloat16 needs OpenVINO and a processor that has it.",
)
@click.option(
    "--max-memory",
    "max_memory_mb",
    type=SizeType(),
    help="What the process may take in all, as 2GB or 900MB; each of --workers or --cluster.  "
    "[default: most of what is free]",
)
@click.option(
    "--tiles",
    type=click.Choice(TILES),
    default="exact",
    show_default=True,
    help="Where a scan is too large for one pass: tiles whose result equals one pass; close: or "
    "with too narrow a halo; any: or blended ones, however small. What labels may lose is said.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of a side that blended tiles have in common.  [default: what the model says]",
)
@click.option(
    "--mirror/--no-mirror",
    default=None,
    help="Average over views mirrored along the axes that training mirrored, as info names them: "
    "2, 4 or 8 times the work.  [default: what the model says]",
)
@click.option(
    "--postprocess/--no-postprocess",
    default=True,
    help="Leave labels as the network says, without the model's post-processing.",
)
@flag(
    "--explain",
    help="Only read each case and print how it would be computed, with memory and time.",
)
@flag(
    "--resume",
    help="Skip cases that this model has segmented into OUTPUT, if no file of them has changed.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads on the CPU, of each worker.  [default: one per core, which workers share]",
)
@flag("--probabilities", help="Write <id>_probabilities.nii.gz as well.")
@flag(
    "--uncertainty",
    help="Write <id>_entropy.nii.gz as well; of several networks also "
    "<id>_mutual_information.nii.gz, what they disagree about. In nats.",
)
@click.option(
    "--format",
    type=click.Choice(FORMAT_NAMES),
    help="Of what is written; dicom-seg needs DICOM.  [default: as the input; nifti for DICOM]",
)
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    default="flat",
    show_default=True,
    help="Of OUTPUT: files named by their case; or bids, a data set of BIDS derivatives in NIfTI, "
    "sub-.../anat/sub-..._desc-vol3dseg_dseg.nii.gz.",
)
@flag("--deidentify", help="Blank patient and study in DICOM-SEG; no other format carries them.")
@flag(
    "--picture",
    help="Write <id>.png as well, beside the case's own label map if it has one. Needs [report].",
)
@click.option(
    "--picture-modality",
    metavar="MODALITY",
    help="What the picture shows; implies --picture.  [default: the model's first]",
)
@workers_option("vol3dseg.inference.elsewhere", default=1)
@repair_option()
@trusted_option()
def predict(model: Path, inputs: tuple[Path, ...], output: Path, **chosen: Any) -> None:
    """Segment scans with MODEL, an ONNX file made by vol3dseg export-onnx or vol3dseg adopt.

    INPUT is any of: a folder of images, <id>.nii.gz or <id>_<modality>.nii.gz; a dataset folder in
    a known layout, a dataset table (.csv, .json), the folder of one case; or, for a model of one
    modality, an image file, a folder with a DICOM series or a folder of such folders; for a model
    that was adopted from nnU-Net, a folder of <id>_0000.nii.gz, ... as well.
    DICOM needs the extra [dicom]. Writes OUTPUT/<id>.nii.gz, .nrrd or .mha on the grid of the
    source, and OUTPUT/predictions.json. The headers of all cases are checked first; a case that
    fails is named and the others go on. Needs no TensorFlow.
    """
    if chosen["parts"] and chosen["split"] is None:
        raise click.UsageError("--part names a part of --split; give that as well")
    if chosen["deidentify"] and chosen["format"] != SEG:
        raise click.UsageError(f"--deidentify is for --format {SEG}; other formats hold no names")
    chosen["trusted"] = chosen["trusted"] or None
    images, case_id, explaining = (chosen.pop(name) for name in ("images", "case_id", "explain"))
    workers = chosen.pop("workers") or 1
    if bool(images) == bool(inputs):
        raise click.UsageError("give INPUT, or --image once per modality, and not both")

    from inspect import signature

    from vol3dseg.datasets.selection import one_case
    from vol3dseg.inference.loading import load_predictor
    from vol3dseg.inference.output_files import PredictOptions
    from vol3dseg.machine import limit_cores

    if chosen["threads"]:
        limit_cores(chosen["threads"])  # for reading, preparing and writing as well
    # Options are named as the parameters of what takes them.
    loading = signature(load_predictor).parameters.keys() & chosen.keys()
    predictor = load_predictor(model, **{name: chosen.pop(name) for name in loading})
    click.echo(f"running on {predictor.origin.provider}")
    if key := predictor.origin.trusted_by:
        click.echo(f"signed by the trusted key {key}")
    for note in predictor.notes:
        click.echo(f"note: {note}")
    picture, modality = chosen.pop("picture"), chosen.pop("picture_modality")
    if picture or modality:
        chosen["draw"] = drawing(predictor.manifest.recipe, modality)
    options = PredictOptions(**chosen)
    given: Inputs = [one_case(images, case_id or "case")] if images else inputs
    done = (
        run_explain(predictor, given, options)
        if explaining
        else run_predict(predictor, given, output, options, workers)
    )
    if not done:
        sys.exit(1)


def run_predict(
    predictor: "Predictor",
    inputs: "Inputs",
    output: Path,
    options: "PredictOptions",
    workers: "int | Executor" = 1,
) -> bool:
    """Segment in front of the user; returns whether no case has failed."""
    from vol3dseg.inference.predicting import predict as run

    with progress_bar() as bar:
        task = bar.add_task("segmenting", total=None)
        records: list[CaseRecord] = []

        def advance(case_id: str, record: "CaseRecord") -> None:
            records.append(record)
            bar.advance(task)
            line = _line(case_id, record)
            bar.console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

        def begin(total: int) -> None:
            bar.update(task, total=total)

        run(predictor, inputs, output, options, click.echo, advance, begin, workers)
    failed = sum(bool(record.error) for record in records)
    unlike = sum(bool(record.warnings) for record in records)
    segmented = len(records) - failed
    noun = "case" if segmented == 1 else "cases"
    warned = f" ({unlike} with warnings)" if unlike else ""
    click.echo(f"{segmented} {noun} segmented{warned}, {failed} failed -> {output}")
    trained_on = sum(record.part == "train" for record in records)
    if trained_on:
        click.echo(f"note: the model was trained on {trained_on} of these scans")
    return failed == 0


def run_explain(predictor: "Predictor", inputs: "Inputs", options: "PredictOptions") -> bool:
    """Print how each case would be segmented; returns whether all can be."""
    from vol3dseg.inference.predicting import explain

    able = True
    for case_id, found in explain(predictor, inputs, options):
        click.echo(f"{case_id}: {found.plan or f'cannot be segmented: {found.error}'}")
        for kind, said in [("note", found.notes), ("warning", found.warnings)]:
            for line in said:
                click.echo(f"  {kind}: {line}")
        able = able and not found.error
    return able


def drawing(recipe: "ModelRecipe", modality: str | None) -> "Draw":
    """Return what draws a case; a missing matplotlib is reported before the first case."""
    from vol3dseg.reporting.figures import new_figure
    from vol3dseg.reporting.overlay import save_case_overlay

    shown = modality or recipe.modalities[0]
    if shown not in recipe.modalities:
        raise click.UsageError(
            f"--picture-modality {modality}: the model's are {', '.join(recipe.modalities)}"
        )
    new_figure(1, 1)
    return partial(save_case_overlay, modality=shown, window=recipe.windows.get(shown))


def _line(case_id: str, record: "CaseRecord") -> str:
    if record.error:
        return "\n".join(f"failed: {about_case(case_id, e)}" for e in record.error.splitlines())
    found = ", ".join(f"{name} {ml:.2f} ml" for name, ml in record.volumes_ml.items())
    note = f"; {record.picture_note}" if record.picture_note else ""
    for modality, count in record.replaced.items():
        note += f"; {count} voxels of {modality} were NaN or infinite and were replaced"
    line = f"{case_id}: {found} ({sum(record.seconds.values()):.1f} s){note}"
    changes = [f"{c.what}: {c.voxels} voxels" for c in record.changes if c.voxels]
    said = {
        "post-processing": changes,
        "note": record.notes,
        "repaired": record.repairs,
        "warning": _first(record.warnings),
    }
    more = [f"  {what}: {remark}" for what, remarks in said.items() for remark in remarks]
    return "\n".join([line, *more])


def _first(warnings: Sequence[str]) -> list[str]:
    """Return the first warning, which says most, and how many more the record has."""
    more = f" (and {len(warnings) - 1} more, in predictions.json)" if len(warnings) > 1 else ""
    return [warnings[0] + more] if warnings else []
