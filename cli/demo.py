"""`vol3dseg demo`: the straight line on data made on the spot."""

import json
import shutil
import time
from contextlib import closing, suppress
from functools import partial
from pathlib import Path, PurePosixPath

import click

from vol3dseg.cli.options import PathType, command, show_table
from vol3dseg.cli.training_bar import TrainingBar

_TRAINING, _UNSEEN = 24, 6
_MARKER = ".vol3dseg-demo"


@command(short_help="Run the whole line on phantoms.")
@click.option(
    "-o",
    "--output",
    type=PathType,
    default=Path("demo-output"),
    show_default=True,
    help="Folder of everything that is made; it must not hold anything else.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def demo(output: Path, seed: int) -> None:
    """Make a small phantom data set and run preprocess, train, export-onnx, predict and evaluate.

    Needs the [train] and [cpu] extras and a few minutes on two cores.
    """
    # Whatever is missing is told before anything is made.
    import vol3dseg.export.to_onnx  # noqa: F401
    from vol3dseg.datasets.phantom import make_phantoms
    from vol3dseg.errors import OutputError
    from vol3dseg.extras import load_extra
    from vol3dseg.files import require_writable, write_json

    load_extra("matplotlib.figure", "report")
    _clear(output)
    require_writable(output)
    started, count = time.perf_counter(), _TRAINING + _UNSEEN
    try:
        _say(f"making {count} phantoms: four modalities, a nested tumour, BraTS layout")
        make_phantoms(output / "known", cases=_TRAINING, seed=seed)
        make_phantoms(output / "unseen", cases=_UNSEEN, seed=seed + 1)
        _straight_line(output)
    finally:
        with suppress(OutputError):
            write_json(output / _MARKER, _contents(output))
    click.echo(f"\n{time.perf_counter() - started:.0f} s in all; everything is in {output}")


def _clear(output: Path) -> None:
    """Remove an earlier demo if its folder holds what it made and nothing else."""
    from vol3dseg.errors import OutputError, some_of

    remedy = "choose another folder with -o, or move this one"
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        found = "a symbolic link" if output.is_symlink() else "no folder"
        raise OutputError(f"is {found}", where=output, expected="a folder", remedy=remedy)
    if not output.is_dir() or not any(output.iterdir()):
        return
    if others := _others(output):
        raise OutputError(
            f"holds {some_of(others)}, which no demo has made or which changed since",
            where=output,
            expected="an empty folder, or an earlier demo and nothing else",
            remedy=remedy,
        )
    shutil.rmtree(output)


def _others(output: Path) -> list[str]:
    """Return what is in a folder and is not as an earlier demo has left it."""
    from vol3dseg.written import LIST_NAME

    made: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError):
        made = dict(json.loads((output / _MARKER).read_text("utf-8")))
    folders = {str(folder) for name in made for folder in PurePosixPath(name).parents}
    own: set[tuple[str, str | None]] = {
        *made.items(),
        *((name, None) for name in (*folders, _MARKER, LIST_NAME) if made),
    }
    found, others = _contents(output), []
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_symlink() or (name, found.get(name)) not in own:
            others.append(name)
    return others


def _contents(output: Path) -> dict[str, str]:
    """Return all files of a demo with their SHA-256, but for the lists of them."""
    from vol3dseg.written import LIST_NAME, sha256_file

    lists = (output / _MARKER, output / LIST_NAME)
    files = (path for path in sorted(output.rglob("*")) if path.is_file() and path not in lists)
    return {path.relative_to(output).as_posix(): sha256_file(path) for path in files}


def _straight_line(output: Path) -> None:
    """Call the library as the commands do that are printed."""
    import vol3dseg
    from vol3dseg.reporting.overlay import save_case_overlay
    from vol3dseg.reporting.score_report import PER_CASE, case_table

    names = ("known", "prepared", "run", "model.onnx", "unseen", "predictions", "report")
    known, prepared, run, model, unseen, predictions, report = (output / name for name in names)
    _say(f"vol3dseg preprocess {known} -o {prepared} --config demo")
    index = vol3dseg.preprocess(known, prepared, "demo", workers=2)
    click.echo(f"{len(index.cases)} cases prepared")
    _say(f"vol3dseg train {prepared} -o {run}")
    config = vol3dseg.load_config("demo")
    with closing(TrainingBar()) as bar:
        manifest = vol3dseg.train(prepared, run, config, progress=bar.line, show=bar.step)
    facts = manifest.trained[0]
    click.echo(f"{facts.checkpoint}.keras is epoch {facts.epoch} of {facts.epochs}")
    _say(f"vol3dseg export-onnx {run} -o {model}")
    parity = vol3dseg.export_onnx(run, model, progress=click.echo).parity
    if parity:
        click.echo(f"equals the trained model to {parity.max_abs_difference:.1e} in probability")
    _say(f"vol3dseg predict {model} {unseen} -o {predictions} --picture-modality t1ce")
    options = vol3dseg.PredictOptions(draw=partial(save_case_overlay, modality="t1ce"))
    record = vol3dseg.predict(model, [unseen], predictions, options, click.echo)
    click.echo(f"{len(record.cases)} cases segmented")
    _say(f"vol3dseg evaluate {predictions} {unseen} -o {report}")
    table = case_table(vol3dseg.evaluate(predictions, unseen, report))
    show_table(PER_CASE, table.columns, table.rows)
    click.echo(f"model: {model} ({model.stat().st_size / 1e6:.1f} MB)")
    click.echo(f"pictures: {predictions}/*.png")


def _say(text: str) -> None:
    click.secho(f"\n$ {text}" if text.startswith("vol3dseg") else text, bold=True)
