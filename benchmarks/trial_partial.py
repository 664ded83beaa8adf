"""Half of the training cases without enhancing tumour annotated: said so, and left as background.

python -m benchmarks.trial_partial CROPS_FOLDER [OUTPUT]

Preset crops32, one split for all. In every second training and validation case what enhances is
made background: once with a file that says that nobody has looked for it there, once without. Both
are compared with a training on whole annotations, over the whole test part. What is trained stays.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.fold_runs import difference_table
from benchmarks.straight_line import run
from vol3dseg.config import load_config
from vol3dseg.config.parsing import dump_config, parse_config
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.label_classes import COLUMN, FILE_NAME
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.datasets.splits import Split, make_split
from vol3dseg.files import write_text
from vol3dseg.reporting.comparison.paired_differences import paired_differences
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores, read_part
from vol3dseg.space.labels import LabelSet

WHOLE, SAID, UNSAID = "all annotated", "half, and said so", "half, left as background"
LACKING = "enhancing"


def main(crops: Path, folder: Path) -> None:
    """Train in all three ways, and print the tables."""
    config = load_config("crops32")
    cases = find_cases(crops, config.recipe.modalities)
    split = make_split({case.id: case.subject for case in cases}, config.split, {})
    file = folder / "split.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    split.write(file)
    data = config.model_dump(mode="json")
    data["split"] |= {"file": str(file.resolve())}
    write_text(folder / "config.yaml", dump_config(parse_config(data, "the trial")))
    without = halved(split)
    found = {}
    for way in (WHOLE, SAID, UNSAID):
        place = folder / way.replace(",", "").replace(" ", "-")
        given = crops
        if way != WHOLE:
            given = place / "data"
            if not given.is_dir():
                blind(cases, without, given, config.labels, said=way == SAID)
        found[way] = _scored(_trained(given, place, folder / "config.yaml"), crops, file)
    sys.stdout.write(f"\n{len(without)} of {len(split.train) + len(split.validation)} cases\n")
    sys.stdout.write(f"\n{report(found)}")


def halved(split: Split) -> tuple[str, ...]:
    """Return every second of the cases that are learned from or choose the epoch."""
    return (*split.train[::2], *split.validation[::2])


def blind(
    cases: Sequence[Case], without: Sequence[str], folder: Path, labels: LabelSet, said: bool
) -> None:
    """Write a data set in which some cases have no voxel of the class that is not looked for.

    Images are links. With `said` a file beside the cases names the classes that were looked for.
    """
    values = [v for label in labels.classes if label.name == LACKING for v in label.values]
    made = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    for case in cases:
        for path in case.paths:
            link = made / case.id / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if path != case.label or case.id not in without:
                link.symlink_to(path.resolve())
                continue
            image = nib.load(path)
            array = np.asarray(image.dataobj)
            array = np.where(np.isin(array, values), 0, array).astype(array.dtype)
            nib.Nifti1Image(array, image.affine, image.header).to_filename(link)
    if said:
        names = "; ".join(name for name in labels.foreground if name != LACKING)
        rows = [f"id,{COLUMN}", *(f"{case},{names}" for case in without)]
        write_text(made / FILE_NAME, "\n".join(rows) + "\n")
    made.rename(folder)


def report(found: dict[str, PartScores]) -> str:
    """Return mean Dice in each way, and what the others lose to whole annotations, as Markdown."""
    whole = found[WHOLE]
    names = list(load_config("crops32").labels.foreground)
    lines = [f"| mean Dice | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for way, part in found.items():
        means = (np.nanmean(list(part.dice[name].values())) for name in names)
        lines.append(f"| {way} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    rows = {
        f"{way} - {WHOLE}": paired_differences(part.dice, whole.dice, (*names, CASE_MEAN))
        for way, part in found.items()
        if way != WHOLE
    }
    return "\n".join(lines) + f"\n\n{difference_table(rows)}"


def _trained(dataset: Path, folder: Path, config: Path) -> Path:
    """Prepare, train and export, unless that is done; return the model."""
    model = folder / "model.onnx"
    if not model.is_file():
        run("preprocess", dataset, "-o", folder / "prepared", "--config", config)
        resume = ["--resume"] if (folder / "run" / "last.keras").is_file() else []
        run("train", folder / "prepared", "-o", folder / "run", *resume)
        run("export-onnx", folder / "run", "-o", model)
    return model


def _scored(model: Path, crops: Path, split: Path) -> PartScores:
    """Return the scores of the test part, whose references are whole."""
    report = model.parent / "report"
    if not (report / "test" / "summary.json").is_file():
        predictions = model.parent / "predictions"
        held = ("--split", split)
        run("predict", model, crops, "-o", predictions, *held, "--part", "test", "--resume")
        run("evaluate", predictions, crops, "-o", report, *held)
    return read_part(report / "test", "test")


if __name__ == "__main__":
    reading = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    reading.add_argument("crops", type=Path)
    reading.add_argument("output", type=Path, nargs="?", default=Path("trials/partial"))
    words = reading.parse_args()
    main(words.crops, words.output)
