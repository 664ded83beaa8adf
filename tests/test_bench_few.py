"""The trial of a few cases: who is held out, what is trained with what, and what is compared."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import trial_few
from benchmarks.trial_few import divided, main
from vol3dseg.config import load_config
from vol3dseg.datasets.splits import read_split

pytest.importorskip("scipy")
CASES = [f"case{number:02d}" for number in range(40)]


def test_nobody_learns_from_what_is_held_out_nor_the_model_from_what_is_drawn():
    whole, parts = divided(CASES, few=8, draws=2)
    assert len(whole.test) == 10
    assert {part.test for part in parts} == {whole.test}
    learned = [set(split.train) for split in (whole, *parts)]
    assert [len(cases) for cases in learned] == [14, 8, 8]
    assert set.union(*learned) == set(CASES) - set(whole.test)
    assert sum(map(len, learned)) == 30


def test_too_few_cases_are_refused():
    with pytest.raises(SystemExit, match="40 cases are too few for 3 draws of 8"):
        divided(CASES, few=8, draws=3)


@pytest.fixture
def said(monkeypatch):
    """What is called, by a command that scores better what starts from a model."""
    words_of_all = []

    def run(*words):
        words_of_all.append([str(word) for word in words])
        if words[0] == "train":
            words[3].mkdir()
        if words[0] == "evaluate":
            split, dice = read_split(words[words.index("--split") + 1]), 0.5
            dice += 0.1 * ("tuned" in str(words[1]))
            rows = {c: {"edema": {"dice": dice + 0.001 * CASES.index(c)}} for c in split.test}
            part = words[words.index("-o") + 1] / "test"
            part.mkdir(parents=True)
            data = {
                "format": "vol3dseg.scores", "version": 3, "empty_masks": {"rule": "undefined"},
                "pooled": {}, "references": {}, "scores": rows,
            }  # fmt: skip
            (part / "summary.json").write_text(json.dumps(data))
        return 60.0

    def write(cases, path):
        """A split must name every prepared case, so that is all that may be prepared."""
        assert {case.id for case in cases} == set(read_split(path.with_name("split.json")).ids)

    monkeypatch.setattr(trial_few, "run", run)
    cases = [SimpleNamespace(id=case, label=f"{case}.nii") for case in CASES]
    monkeypatch.setattr(trial_few, "find_cases", lambda folder: cases)
    monkeypatch.setattr(trial_few, "write_table", write)
    return words_of_all


def test_what_starts_from_the_model_is_compared_over_the_same_cases(said, tmp_path, capsys):
    main(tmp_path / "crops", tmp_path / "out", few=8, draws=2, hours=1)
    trained = [words for words in said if words[0] == "train"]
    assert [words.count("--from") for words in trained] == [0, 0, 1, 0, 1]
    tuned = load_config(tmp_path / "out" / "draw-1" / "tuned" / "config.yaml").training
    scratch = load_config(tmp_path / "out" / "draw-1" / "scratch" / "config.yaml").training
    assert (tuned.epochs, tuned.steps_per_epoch) == (scratch.epochs, scratch.steps_per_epoch)
    assert tuned.learning_rate < scratch.learning_rate
    table = capsys.readouterr().out
    assert "| from the model - scratch | +0.1000 [+0.1000, +0.1000]" in table
    assert "| from the model | 0.6" in table
    before = len(said)
    main(tmp_path / "crops", tmp_path / "out", few=8, draws=2, hours=1)
    assert not [words for words in said[before:] if words[0] in {"train", "evaluate"}]
