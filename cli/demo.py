"""`vol3dseg demo`: the straight line on data made on the spot."""

import shutil
import time
from pathlib import Path

import click

from vol3dseg.cli.options import PathType, show_table

_TRAINING, _UNSEEN = 24, 6


@click.command(short_help="Run the whole line on phantoms.")
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
    from vol3dseg.datasets.phantom import make_phantoms
    from vol3dseg.errors import OutputError

    if output.exists():
        if any(output.iterdir()) and not (output / _MARKER).exists():
            raise OutputError(f"{output}: holds something else; choose another folder with -o")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / _MARKER).touch()
    started = time.perf_counter()
    _say(f"making {_TRAINING + _UNSEEN} phantoms: four modalities, a nested tumour, BraTS layout")
    make_phantoms(output / "known", cases=_TRAINING, seed=seed)
    make_phantoms(output / "unseen", cases=_UNSEEN, seed=seed + 1)
    _straight_line(output)
    click.echo(f"\n{time.perf_counter() - started:.0f} s in all; everything is in {output}")


_MARKER = ".vol3dseg-demo"


def _straight_line(output: Path) -> None:
    from vol3dseg.cli.export_onnx import run_export
    from vol3dseg.cli.predict import drawing, run_predict
    from vol3dseg.cli.preprocess import run_preprocess
    from vol3dseg.cli.train import run_train
    from vol3dseg.inference.loading import load_predictor
    from vol3dseg.inference.output_files import PredictOptions
    from vol3dseg.reporting.score_predictions import ALL, evaluate

    names = ("known", "prepared", "run", "model.onnx", "unseen", "predictions", "report")
    known, prepared, run, model, unseen, predictions, report = (output / name for name in names)
    _say(f"vol3dseg preprocess {known} -o {prepared} --config demo")
    run_preprocess(known, prepared, "demo", workers=2)
    _say(f"vol3dseg train {prepared} -o {run}")
    run_train(prepared, run, None)
    _say(f"vol3dseg export-onnx {run} -o {model}")
    run_export(run, model)
    _say(f"vol3dseg predict {model} {unseen} -o {predictions} --picture-modality t1ce")
    predictor = load_predictor(model)
    draw = drawing(predictor.manifest.recipe.modalities, "t1ce")
    run_predict(predictor, [unseen], predictions, PredictOptions(draw=draw))
    _say(f"vol3dseg evaluate {predictions} {unseen} -o {report}")
    summary = evaluate(predictions, unseen, report).summaries[ALL]
    mean = summary.mean_foreground_dice or 0.0
    show_table(
        "The demo in short",
        ["what", "value"],
        [
            ["phantoms to learn from, unseen", f"{_TRAINING}, {_UNSEEN}"],
            ["mean Dice on unseen phantoms", f"{mean:.3f}"],
            ["model", f"{model} ({model.stat().st_size / 1e6:.1f} MB)"],
            ["pictures", f"{predictions}/*.png"],
        ],
    )


def _say(text: str) -> None:
    click.secho(f"\n$ {text}" if text.startswith("vol3dseg") else text, bold=True)
