"""A6: label maps that cannot be judged, since a case lacks the one or the other."""

import json

from tests.catalogue.data import LABEL, DataSet, Make
from tests.catalogue.row import Group, Row
from vol3dseg.config import load_config
from vol3dseg.inference.record import CaseRecord, Record

_LACKING = "; expected a prediction and a reference of each; add what is missing, or score the " \
    "others alone with --only-common, which names these in the report"  # fmt: skip
_SPLIT = ("--split", "{folder}/split.json")


def judged(
    predictions: str,
    references: str,
    failed: str = "",
    parts: dict[str, str] | None = None,
    split: dict[str, str] | None = None,
) -> Make:
    """Write label maps of cases named by letters, what predict has recorded of them, a split."""

    def make(data: DataSet) -> None:
        for folder, cases in (("predictions", predictions), ("references", references)):
            for case in cases:
                data.nifti(f"{folder}/{case}.nii", LABEL)
        if failed or parts:
            made = {c: CaseRecord(file=f"{c}.nii") for c in predictions}
            made |= {c: CaseRecord(error="is damaged") for c in failed}
            facts = dict.fromkeys(("model_sha256", "fingerprint", "provider"), "x")
            labels = load_config("crops32").labels
            record = Record(**facts, labels=labels, channels=(), versions={}, cases=made)
            record.with_parts(parts or {}).save(data.folder / "predictions")
        if split:
            text = json.dumps({part: list(cases) for part, cases in split.items()})
            data.write("split.json", text.encode())

    return make


def _row(name: str, given: str, make: Make, refused: str, *words: str) -> Row:
    return Row(name, given, make, refused, like=None, checked=False, evaluate=words)


ROWS = (
    _row("J1", "two predictions, three references", judged("ab", "abc"),
         f"not every case can be scored (no prediction: c){_LACKING}"),
    _row("J2", "three predictions, two references", judged("abc", "ab"),
         "not every case can be scored (no reference: c)"
         + _LACKING.replace("of each", "of each, named alike; references are a, b")),
    _row("J3", "a case that failed when it was predicted", judged("a", "ab", failed="b"),
         f"not every case can be scored (prediction failed: b){_LACKING}"),
    _row("J4", "a split, of whose part a case is in neither folder",
         judged("a", "a", split={"train": "c", "test": "ab"}),
         "not every case can be scored (neither prediction nor reference: b)" + _LACKING, *_SPLIT),
    _row("J5", "a split without one of the predictions", judged("ab", "ab", split={"train": "a"}),
         "{folder}/split.json: predictions that are in no part: b; expected a part for each; give "
         "the split that they were made by, or evaluate without --split", *_SPLIT),
    _row("J6", "another split than predict was given",
         judged("ab", "ab", parts={"train": "a", "test": "b"}, split={"train": "b", "test": "a"}),
         "{folder}/split.json: puts b into train, not test, a into test, not train; expected the "
         "split that the model was trained with, or that predict was given; give that one",
         *_SPLIT),
)  # fmt: skip

JUDGED = Group(
    "Who is judged",
    "Given to `vol3dseg evaluate DATA/predictions DATA/references -o OUT --config C`.",
    ROWS,
)
