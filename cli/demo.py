"""`vol3dseg demo`: the straight line on data made on the spot."""

import shutil
import time
from functools import partial
from pathlib import Path

import click

from vol3dseg.cli.options import PathType, show_table

_TRAINING, _UNSEEN = 24, 6
_MARKER = ".vol3dseg-demo"


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
            raise OutputError(
                "holds something else", where=output, remedy="choose another folder with -o"
            )
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / _MARKER).touch()
    started = time.perf_counter()
    _say(f"making {_TRAINING + _UNSEEN} phantoms: four modalities, a nested tumour, BraTS layout")
    make_phantoms(output / "known", cases=_TRAINING, seed=seed)
    make_phantoms(output / "unseen", cases=_UNSEEN, seed=seed + 1)
    _straight_line(output)
    click.echo(f"\n{time.perf_counter() - started:.0f} s in all; everything is in {output}")


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
    facts = vol3dseg.train(prepared, run, config, progress=click.echo).members[0]
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
