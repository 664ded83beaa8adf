"""`vol3dseg predict`."""

from pathlib import Path

import click

from vol3dseg.cli.options import PathType, SizeType, output_option, repair_option
from vol3dseg.cli.predicting import SEG, Choice, Manner, Runtime, run_explain, run_predict

_DEVICES = ("auto", "cpu", "cuda", "tensorrt", "openvino")
_PRECISIONS = ("float32", "bfloat16")
_FORMATS = ("nifti", "nrrd", "mha", SEG)


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
@click.option(
    "--device",
    type=click.Choice(_DEVICES),
    default="auto",
    show_default=True,
    help="auto: CUDA, else OpenVINO, else onnxruntime on the CPU, by what is installed.",
)
@click.option(
    "--precision",
    type=click.Choice(_PRECISIONS),
    default="float32",
    show_default=True,
    help="What the network computes in; bfloat16 needs OpenVINO and a processor that has it.",
)
@click.option(
    "--max-memory",
    type=SizeType(),
    help="What the process may take in all, as 2GB or 900MB.  [default: most of what is free]",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Only tiles whose result equals one pass over the whole scan, however long they take.",
)
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of a side that blended tiles have in common.  [default: what the model says]",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Read each case and tell how it would be computed, in what memory and time; no more.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Skip cases that this model has segmented into OUTPUT, if no file of them has changed.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    help="Threads on the CPU.  [default: one per core]",
)
@click.option("--probabilities", is_flag=True, help="Write <id>_probabilities.nii.gz as well.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(_FORMATS),
    help="Of what is written; dicom-seg needs DICOM.  [default: as the input; nifti for DICOM]",
)
@click.option(
    "--deidentify",
    is_flag=True,
    help="Blank patient and study in DICOM-SEG; no other format carries them.",
)
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
@repair_option()
def predict(
    model: Path,
    inputs: tuple[Path, ...],
    output: Path,
    images: tuple[str, ...],
    case_id: str | None,
    split: Path | None,
    parts: tuple[str, ...],
    device: str,
    precision: str,
    max_memory: float | None,
    exact: bool,
    overlap: float | None,
    explain: bool,
    resume: bool,
    threads: int,
    probabilities: bool,
    picture: bool,
    picture_modality: str | None,
    format_name: str | None,
    deidentify: bool,
    repair: bool,
) -> None:
    """Segment scans with MODEL, an ONNX file made by vol3dseg export-onnx.

    INPUT is any of: a dataset folder in a known layout, a dataset table (.csv, .json), the folder
    of one case, or, for a model of one modality, an image file or a folder with a DICOM series.
    DICOM needs the extra [dicom]. Writes OUTPUT/<id>.nii.gz, .nrrd
    or .mha on the grid of the source, and OUTPUT/predictions.json. What headers tell is checked
    first, of all cases; one that fails is named and the others go on. Needs no TensorFlow.
    """
    if parts and split is None:
        raise click.UsageError("--part names a part of --split; give that as well")
    if deidentify and format_name != SEG:
        raise click.UsageError(f"--deidentify is for --format {SEG}; other formats name nobody")
    choice = Choice(inputs, images, case_id, split, parts, repair)
    runtime = Runtime(device, precision, threads, max_memory, exact, overlap)
    if explain:
        run_explain(model, choice, runtime)
        return
    drawn = picture or bool(picture_modality)
    manner = Manner(probabilities, drawn, picture_modality, resume, format_name, deidentify)
    run_predict(model, choice, output, runtime, manner)
