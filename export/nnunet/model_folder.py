"""A folder of nnU-Net's results: where its plans, its folds and their checkpoints lie.

::

    Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres/
        plans.json  dataset.json
        fold_0/checkpoint_final.pth  fold_1/...  fold_all/...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vol3dseg.errors import ModelError, reading, some_of
from vol3dseg.export.nnunet import nnunet_labels, plans

Which = Literal["final", "best"]
_EXPECTED = "TRAINER__PLANS__CONFIGURATION with plans.json, dataset.json and fold_0"
_ALL = "all"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where the files of a trained model lie."""

    path: Path
    checkpoints: dict[str, Path]  # by fold: "0", "1", ..., or "all"

    @property
    def plans(self) -> Path:
        """The file of plans."""
        return self.path / plans.FILE_NAME

    @property
    def dataset(self) -> Path:
        """The file that describes the dataset."""
        return self.path / nnunet_labels.FILE_NAME

    @property
    def configuration(self) -> str:
        """What its name says of the configuration; empty where it does not."""
        parts = self.path.resolve().name.split("__")
        return parts[2] if len(parts) == 3 else ""


def find_model(path: Path, folds: Sequence[str] = (), checkpoint: Which = "final") -> ModelFolder:
    """Return the folder of a trained model, or the only one in it, and the checkpoints asked for.

    Without `folds` all numbered ones that have such a checkpoint are taken, as nnU-Net does, or
    fold_all where there is no other. ModelError: there is no such model, or not all folds.
    """
    with reading(path, ModelError, expected=_EXPECTED, remedy="check the path"):
        folder = _placed(path)
        known = {
            each.name.removeprefix("fold_"): each / f"checkpoint_{checkpoint}.pth"
            for each in sorted(folder.iterdir(), key=_by_number)
            if each.name.startswith("fold_") and each.is_dir()
        }
    there = {fold: file for fold, file in known.items() if file.is_file()}
    wanted = list(folds) or [fold for fold in there if fold != _ALL] or list(there)
    lacking = [fold for fold in wanted if fold not in there]
    if lacking or not wanted:
        name = f"checkpoint_{checkpoint}.pth"
        other: Which = "best" if checkpoint == "final" else "final"
        also = [
            f for f in lacking or known if (folder / f"fold_{f}/checkpoint_{other}.pth").exists()
        ]
        raise ModelError(
            f"has no {name}{' of fold ' + some_of(lacking) if lacking else ''}",
            where=folder,
            expected=f"one of {', '.join(f'fold_{f}' for f in there)}" if there else _EXPECTED,
            remedy=f"take --checkpoint {other}" if also else "choose others with --folds",
        )
    return ModelFolder(folder, {fold: there[fold] for fold in wanted})


def _placed(path: Path) -> Path:
    if (path / plans.FILE_NAME).is_file():
        return path
    if path.is_file():
        raise ModelError(
            "a file",
            where=path,
            expected=f"a folder {_EXPECTED}",
            remedy="unpack it first" if path.suffix == ".zip" else "give the folder it lies in",
        )
    inner = sorted(path.iterdir())
    if (path / "plans.pkl").is_file() or any((each / "plans.pkl").is_file() for each in inner):
        raise ModelError(
            "a model of nnU-Net v1 (plans.pkl)",
            where=path,
            expected=f"one of v2: {_EXPECTED}",
            remedy="train it anew with nnU-Net v2",
        )
    models = [each for each in inner if (each / plans.FILE_NAME).is_file()]
    if len(models) == 1:
        return models[0]
    if models:
        names = some_of([each.name for each in models])
        raise ModelError(f"has several models: {names}", where=path, remedy="give one of them")
    if path.name.startswith("fold_") and (path.parent / plans.FILE_NAME).is_file():
        fold = path.name.removeprefix("fold_")
        remedy = f"give {path.parent.name} with --folds {fold}"
        raise ModelError("one fold of a model", where=path, expected=_EXPECTED, remedy=remedy)
    raise ModelError("holds no model of nnU-Net v2", where=path, expected=_EXPECTED)


def _by_number(folder: Path) -> tuple[int, str]:
    end = folder.name.removeprefix("fold_")
    return (int(end) if end.isdecimal() else 10**6, end)
