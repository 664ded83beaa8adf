"""Cases segmented in other processes, each of which opens the model once."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from vol3dseg.datasets.case import Case
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.errors import DeviceError, ModelError, Vol3dSegError
from vol3dseg.inference.batch import Results, predict_one
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.prediction import Origin
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import CaseRecord

# What this process has opened last, and whether it is at work: one case at a time.
_opened: dict[object, Predictor] = {}
_at_work = Lock()


def segment_elsewhere(
    predictor: Predictor,
    folder: Path,
    options: PredictOptions,
    executor: Executor,
    cases: Sequence[Case],
) -> Results:
    """Give what becomes of each case, as it is ready; the processes write into `folder`.

    ModelError: the predictor was not made by `load_predictor`, or a process finds another model.
    DeviceError: a process would run it on another device.
    """
    if predictor.again is None:
        raise ModelError(
            "other processes cannot open a predictor that was not made of a file",
            expected="the path of a model, or what load_predictor made of it",
            remedy="give that, or work in this process: workers=1",
        )
    task = _Task(predictor.again, predictor.origin, folder, options)
    reads = [Path(predictor.again.args[0])]
    return over_cases(task, cases, executor, _failed, reads, folder)


def _failed(case: Case, error: Vol3dSegError) -> tuple[str, CaseRecord]:
    return case.id, CaseRecord.failed(error)


@dataclass(frozen=True, slots=True)
class _Task:
    again: partial[Predictor]
    origin: Origin
    folder: Path
    options: PredictOptions

    def __call__(self, case: Case) -> tuple[str, CaseRecord]:
        with _at_work:
            return case.id, predict_one(case, self._predictor(), self.folder, self.options)

    def _predictor(self) -> Predictor:
        """Open the model, if that is not what was opened last."""
        key = self.origin, self.again.args
        if key not in _opened:
            _opened.clear()
            made = self.again()
            self._require_same(made.origin)
            _opened[key] = made
        return _opened[key]

    def _require_same(self, found: Origin) -> None:
        if found.sha256 != self.origin.sha256:
            raise ModelError(
                "is another model to a worker",
                where=self.again.args[0],
                expected=f"SHA-256 {self.origin.sha256} everywhere",
                remedy="leave the file alone until all cases are segmented",
            )
        if found.provider != self.origin.provider:
            raise DeviceError(
                f"a worker would run on {found.provider}",
                expected=f"{self.origin.provider}, as here",
                remedy="choose a --device that all machines have",
            )
