"""Trials over folds: what is done stays, cases are paired, minutes are equal."""

import argparse
import json

import pytest

from benchmarks import fold_runs, trial_accuracy, trial_configs
from benchmarks.fold_runs import Contender, difference_table, differences, together
from benchmarks.trial_configs import equal_minutes, report, require_comparable, trial
from benchmarks.trial_norms import norms
from vol3dseg.config import load_config
from vol3dseg.reporting.score_files import CASE_MEAN, PartScores

pytest.importorskip("scipy")
EPOCHS = load_config("hippocampus").training.epochs
CASES = [f"case{number}" for number in range(12)]


def part(shift=0.0, cases=CASES):
    """Dice that differ from case to case, by some shift."""
    dice = {case: 0.8 + 0.01 * CASES.index(case) + shift for case in cases}
    return PartScores(
        "test", {"anterior": dice, "posterior": {c: d - 0.02 for c, d in dice.items()}}, {}
    )


@pytest.fixture
def command(monkeypatch):
    """Stands for `vol3dseg`: writes the scores of a fold, better by 0.01 for each further seed."""
    said = []

    def run(*words):
        said.append([str(word) for word in words])
        if words[0] == "preprocess":
            words[3].mkdir(parents=True)
            (words[3] / "index.json").write_text("{}")
            return 1.0
        fold, seed = (int(words[words.index(option) + 1]) for option in ("--fold", "--seed"))
        made = words[3] / f"fold-{fold}" / "scores" / "test"
        made.mkdir(parents=True)
        shift = 0.01 * seed - 0.05 * ("worse" in str(words[3]))
        found = part(shift, CASES[fold::4])
        scores = {
            case: {name: {"dice": found.dice[name][case]} for name in found.structures}
            for case in found.cases
        }
        data = {
            "format": "vol3dseg.scores", "version": 3, "empty_masks": {"rule": "undefined"},
            "pooled": {}, "references": {}, "scores": scores,
        }  # fmt: skip
        (made / "summary.json").write_text(json.dumps(data))
        return 1.0

    monkeypatch.setattr(fold_runs, "run", run)
    return said


def contender(name, tmp_path, preset="hippocampus"):
    return Contender(name, load_config(preset), tmp_path / name)


def test_what_is_done_is_not_done_again(command, tmp_path):
    one = contender("one", tmp_path)
    prepared = one.prepare(tmp_path / "data")
    for _ in range(2):
        assert one.prepare(tmp_path / "data") == prepared
        for fold in (1, 2):
            one.complete(prepared, 0, fold, 4)
    assert [words[0] for words in command] == ["preprocess", "cross-validate", "cross-validate"]
    assert one.minutes().keys() == {"seed 0, fold 1", "seed 0, fold 2"}
    assert one.scores([0, 1], [1, 2, 3]).keys() == {(0, 1), (0, 2)}


def test_minutes_of_an_interrupted_fold_count(command, tmp_path, monkeypatch):
    one, whole = contender("one", tmp_path), fold_runs.run

    def stopped(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(fold_runs, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        one.complete(tmp_path, 0, 1, 4)
    before = one.minutes()["seed 0, fold 1"]
    assert not one.is_done(0, 1)
    monkeypatch.setattr(fold_runs, "run", whole)
    one.complete(tmp_path, 0, 1, 4)
    assert one.is_done(0, 1)
    assert one.minutes()["seed 0, fold 1"] >= before


def test_a_trial_goes_on_with_the_config_it_was_begun_with(command, tmp_path):
    contender("one", tmp_path).write_config()
    other = Contender("one", load_config("hippocampus").with_epochs(3), tmp_path / "one")
    with pytest.raises(SystemExit, match="begun with another config"):
        other.write_config()


def test_a_case_counts_once_by_its_mean_over_seeds():
    pooled = together([part(0.0, CASES[:2]), part(0.02, CASES[:2]), part(0.0, CASES[2:])])
    assert pooled.cases == tuple(CASES)
    assert pooled.dice["anterior"]["case0"] == pytest.approx(0.81)
    assert pooled.dice["anterior"]["case2"] == pytest.approx(0.82)


def test_configs_are_compared_over_what_both_have_done():
    first = {(0, 1): part(0.01, CASES[:6]), (0, 2): part(0.0, CASES[6:])}
    second = {(0, 1): part(0.0, CASES[:6]), (1, 1): part(0.5, CASES[:6])}
    found = {each.structure: each for each in differences(first, second)}
    assert found.keys() == {"anterior", "posterior", CASE_MEAN}
    assert found["anterior"].cases == 6
    assert found["anterior"].mean == pytest.approx(0.01)
    assert found["anterior"].low == found["anterior"].high == pytest.approx(0.01)
    assert differences(first, {(1, 1): part()}) == ()
    table = difference_table({"a - b": list(found.values()), "a - c": ()})
    assert "| a - b | +0.0100 [+0.0100, +0.0100] |" in table
    assert "a - c" not in table


def test_a_config_whose_step_is_twice_as_quick_has_twice_the_epochs():
    assert equal_minutes({"a": 1.0, "b": 0.5, "c": 3.0}, 30) == {"a": 30, "b": 60, "c": 10}


def test_configs_of_other_patches_are_no_pair():
    configs = {"hippocampus": load_config("hippocampus"), "crops32": load_config("crops32")}
    with pytest.raises(SystemExit, match="crops32: another recipe"):
        require_comparable(configs)


def test_norms_are_all_that_differs():
    preset = load_config("crops32")
    every = norms(preset, width=4, epochs=10)
    require_comparable(every)
    assert [each.model.norm for each in every.values()] == ["batch", "instance"]
    assert {(each.model.width, each.training.epochs) for each in every.values()} == {(4, 10)}
    for each in every.values():
        given = each.training.model_copy(update={"epochs": preset.training.epochs})
        assert given == preset.training


def test_a_trial_of_configs_in_pieces(command, tmp_path, monkeypatch, capsys):
    every = norms(load_config("hippocampus"), width=16, epochs=EPOCHS)
    configs = {"better": every["batch"], "worse": every["instance"]}
    monkeypatch.setattr(trial_configs, "_patch_s", lambda config, measure: 1.0)
    words = argparse.Namespace(
        dataset=tmp_path / "data", output=tmp_path / "out", folds=4, fold=[1, 2], seed=[0, 1],
        hours=0.0,
    )  # fmt: skip
    trial(configs, words)
    assert "8 trainings are left; call again" in capsys.readouterr().out
    words.hours = 1.0
    trial(configs, words)
    said = capsys.readouterr().out
    assert "| better - worse | +0.0500 [+0.0500, +0.0500] | +0.0500" in said
    assert f"| better | {EPOCHS} | 4 |" in said
    assert len(command) == 9
    assert [w[3].split("/")[-2] for w in command[1:3]] == ["better", "worse"]
    trial(configs, words)
    assert len(command) == 9


def test_accuracy_is_held_against_the_others(command, tmp_path, capsys):
    words = argparse.Namespace(
        dataset=tmp_path / "data", output=tmp_path / "out", config="hippocampus", against=None,
        folds=3,
    )  # fmt: skip
    trial_accuracy.main(words)
    said = capsys.readouterr().out
    assert "| fold 1 | 0.8500 | 0.8300 | 0.9007 / 0.8835 |" in said
    assert "| pooled, 9 cases | 0.8600 [" in said
    assert "| nnU-Net 3d_fullres | 0.8975 | 0.8807 | |" in said
    assert "anterior 0.898: missed" in said
    assert "30 minutes a fold: kept" in said


def test_a_report_before_anything_is_done(tmp_path):
    text = report([contender("one", tmp_path), contender("two", tmp_path)], [0], [1])
    assert f"| one | {EPOCHS} | 0 | - |" in text
    assert "difference" not in text
