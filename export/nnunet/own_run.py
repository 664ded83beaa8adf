"""nnU-Net itself, on some cases, in a process of its own.

nnU-Net loads checkpoints with torch's own unpickler, which runs what they hold. They are read by
our closed list first, so that one that holds anything but numbers never comes here.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vol3dseg.export.nnunet.model_folder import ModelFolder
from vol3dseg.export.nnunet.plans import Plans
from vol3dseg.export.own_process import run_apart
from vol3dseg.extras import load_extra

EXTRA = "nnunet"
_MODULE = "vol3dseg.export.nnunet.own_run"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be run; `cases` are the files of each, in order of the channels."""

    model: str
    folds: Sequence[str]
    checkpoint: str
    mirror: bool
    cases: Mapping[str, Sequence[str]]
    stages: bool  # write what lies between, too
    output: str


@dataclass(frozen=True, slots=True)
class OwnResults:
    """What nnU-Net has written of each case."""

    folder: Path

    def labels(self, case: str) -> Path:
        """Return the label map of a case."""
        return self.folder / f"{case}.nii.gz"

    def array(self, case: str, stage: str) -> Any:
        """Return "probabilities", or of `stages` "image", "patch", "patch_logits" or "logits".

        Their axes are channel and those of nnU-Net's arrays: probabilities as its readers give
        them, the others as the network sees them.
        """
        if stage == "probabilities":
            with np.load(self.folder / f"{case}.npz") as found:
                return found["probabilities"]
        return np.load(self.folder / f"{case}.{stage}.npy")


def along_file(own: OwnResults, case: str, plans: Plans, stage: str) -> Any:
    """Return (channel, i, j, k) of a stage, whose axes are those that the network sees."""
    return own.array(case, stage).transpose(0, *plans.along_file((1, 2, 3)))


def require_nnunet() -> None:
    """Raise MissingExtraError where nnU-Net or torch is not installed."""
    load_extra("torch", EXTRA)
    load_extra("nnunetv2", EXTRA)


@contextmanager
def nnunet_says(
    folder: ModelFolder, cases: Mapping[str, Sequence[Path]], mirror: bool, stages: bool = False
) -> Iterator[OwnResults]:
    """Run nnU-Net's predictor as nnUNetv2_predict does, on the CPU, and give what it has written.

    ModelError: it failed, with the last that it said.
    """
    checkpoints = list(folder.checkpoints.values())
    with tempfile.TemporaryDirectory(prefix="vol3dseg-") as output:
        job = Job(
            model=str(folder.path.resolve()),
            folds=list(folder.checkpoints),
            checkpoint=checkpoints[0].name,
            mirror=mirror,
            cases={name: [str(file.resolve()) for file in of] for name, of in cases.items()},
            stages=stages,
            output=output,
        )
        remedy = "see that nnUNetv2_predict runs on these cases"
        run_apart(_MODULE, asdict(job), "nnU-Net", remedy, folder.path)
        yield OwnResults(Path(output))


def _run(job: Job) -> None:
    """Do what nnUNetv2_predict does, case after case."""
    torch = load_extra("torch", EXTRA)
    predicting = load_extra("nnunetv2.inference.predict_from_raw_data", EXTRA)
    predictor = predicting.nnUNetPredictor(
        device=torch.device("cpu"), use_mirroring=job.mirror, allow_tqdm=False
    )
    folds = [fold if fold == "all" else int(fold) for fold in job.folds]
    predictor.initialize_from_trained_model_folder(job.model, folds, job.checkpoint)
    for name, files in job.cases.items():
        _run_case(torch, predicting, predictor, job, name, list(files))


def _run_case(
    torch: Any, predicting: Any, predictor: Any, job: Job, name: str, files: list[str]
) -> None:
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    description = {**predictor.dataset_json, "file_ending": ".nii.gz"}
    steps = configuration.preprocessor_class(verbose=False)
    image, _, properties = steps.run_case(files, None, plans, configuration, description)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(image)).cpu()
    place = Path(job.output) / name
    if job.stages:
        sides = configuration.patch_size
        part = image[:, : sides[0], : sides[1], : sides[2]]
        missing = [(0, n - m) for n, m in zip(sides, part.shape[1:], strict=True)]
        patch = np.pad(part, [(0, 0), *missing])[None]
        with torch.inference_mode():
            given = 0
            for weights in predictor.list_of_parameters:
                predictor.network.load_state_dict(weights)
                given += predictor.network(torch.from_numpy(patch)).numpy()
        found = {
            "image": image,
            "patch": patch[0],
            "patch_logits": given[0] / len(predictor.list_of_parameters),  # type: ignore[index]
            "logits": logits.numpy(),
        }
        for stage, array in found.items():
            np.save(f"{place}.{stage}.npy", array)
    predicting.export_prediction_from_logits(
        logits.numpy(), properties, configuration, plans, description, str(place), True
    )


if __name__ == "__main__":
    _run(Job(**json.load(sys.stdin)))
