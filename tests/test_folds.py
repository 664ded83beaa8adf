"""Folds: each subject is held out once, and learned from by all other folds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vol3dseg.datasets.drawing import held_out_subjects
from vol3dseg.datasets.folds import Fold, read_folds, write_folds
from vol3dseg.datasets.splits import SplitConfig, make_split
from vol3dseg.errors import DatasetError

NAMES = tuple(f"s{n:02d}" for n in range(23))


def splits_of(subjects, volumes=None, folds=5, **config):
    return [
        make_split(subjects, SplitConfig(folds=folds, fold=k, **config), volumes)
        for k in range(1, folds + 1)
    ]


scans_of_subjects = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.sampled_from("ABCDEFGHIJ"), min_size=8
).filter(lambda subjects: len(set(subjects.values())) >= 4)


@given(scans_of_subjects, st.integers(2, 4), st.integers(0, 9), st.sampled_from([0.0, 0.3]))
def test_each_subject_is_held_out_once_and_in_one_part_of_a_fold(subjects, folds, seed, share):
    splits = splits_of(subjects, folds=folds, seed=seed, validation=share)
    assert sorted(case for split in splits for case in split.test) == sorted(subjects)
    for split in splits:
        assert sorted(split.ids) == sorted(subjects)
        people = [
            {subjects[i] for i in part} for part in (split.train, split.validation, split.test)
        ]
        assert sum(map(len, people)) == len(set(subjects.values()))
        assert bool(split.validation) == bool(share)


@given(st.permutations(NAMES), st.integers(2, 7), st.integers(0, 9))
def test_folds_depend_on_names_and_seed_alone_and_are_of_one_size(names, folds, seed):
    held = held_out_subjects(names, folds, seed)
    assert held == held_out_subjects(NAMES, folds, seed)
    assert max(map(len, held)) - min(map(len, held)) <= 1


@given(
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 300), min_size=7),
    st.integers(2, 7),
    st.integers(0, 9),
)
def test_below_any_volume_each_stratified_fold_has_its_share_up_to_one(volumes, folds, seed):
    held = held_out_subjects(list(volumes), folds, seed, volumes)
    assert sorted(name for fold in held for name in fold) == sorted(volumes)
    for limit in volumes.values():
        counts = [sum(volumes[name] < limit for name in fold) for fold in held]
        assert max(counts) - min(counts) <= 1


def test_a_seed_names_the_folds_for_good():
    assert held_out_subjects(NAMES[:7], 3, seed=1) == (
        ("s03", "s04", "s05"),
        ("s00", "s02"),
        ("s01", "s06"),
    )
    assert held_out_subjects(NAMES, 3, 1) != held_out_subjects(NAMES, 3, 2)
    volumes = {name: float(n) for n, name in enumerate(NAMES)}
    stratified = [held_out_subjects(NAMES, 3, seed, volumes) for seed in (1, 2)]
    assert stratified[0] != stratified[1]


def test_held_out_cases_are_the_test_part_and_the_config_decides_on_validation():
    subjects = {name: name for name in NAMES}
    first, second = splits_of(subjects, folds=2, validation=0.5, test=0.5)
    assert len(first.test) == 12
    assert (len(first.train), len(first.validation)) == (5, 6)
    assert first.test != second.test


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"fold": 6}, "fold 6 of folds 5 .*choose one from 1 to 5", id="no such fold"),
        pytest.param({"folds": 1}, "greater than or equal to 2", id="one fold"),
        pytest.param({"fold": 0}, "greater than or equal to 1", id="counted from 1"),
    ],
)
def test_wrong_numbers_of_folds(config, message):
    with pytest.raises(ValidationError, match=message):
        SplitConfig(**config)


def test_too_few_subjects():
    with pytest.raises(
        DatasetError, match=r"4 subjects are too few for 5 folds.*lower split\.folds"
    ):
        make_split({name: name for name in "abcd"}, SplitConfig(fold=1))


def write(path, *folds):
    path.write_text(json.dumps([{"train": list(t), "val": list(v)} for t, v in folds]))
    return path


def test_folds_of_a_file_in_the_form_of_nnunet(tmp_path):
    path = write(tmp_path / "splits_final.json", ("ab", "c"), ("c", "ab"))
    folds = read_folds(path)
    assert folds[1] == Fold(train=("c",), val=("a", "b"))
    write_folds(tmp_path / "again.json", folds)
    assert read_folds(tmp_path / "again.json") == folds
    config = SplitConfig(file=path, fold=2, folds=2, validation=0)
    split = make_split({name: name for name in "abc"}, config)
    assert (split.train, split.validation, split.test) == (("c",), (), ("a", "b"))
    assert f"Fold 2 of those of {path} is held out" in config.in_words
    share = make_split({name: name for name in "abc"}, SplitConfig(file=path, fold=1))
    assert (len(share.train), len(share.validation), share.test) == (1, 1, ("c",))


@pytest.mark.parametrize(
    ("folds", "number", "message"),
    [
        pytest.param([("ab", "c")], 1, "1 folds, which is no cross-validation", id="one fold"),
        pytest.param([("a", "bc"), ("b", "ac")], 1, "1 cases are held out twice: c", id="twice"),
        pytest.param([("abc", ""), ("ab", "c")], 1, "nothing is held out in fold 1", id="nothing"),
        pytest.param([("ab", "c"), ("c", "ab")], 3, "has 2 folds.*number 3", id="no such fold"),
        pytest.param([("b", "c"), ("c", "ab")], 1, "fold 1: 1 cases are in no part: a", id="part"),
        pytest.param([("abx", "c"), ("c", "ab")], 1, "1 cases are unknown: x", id="unknown"),
        pytest.param([("abc", "c"), ("c", "ab")], 1, "fold 1: .*listed twice: c", id="leak"),
    ],
)
def test_a_file_of_folds_that_does_not_fit(tmp_path, folds, number, message):
    path = write(tmp_path / "splits.json", *folds)
    with pytest.raises(DatasetError, match=message):
        make_split({name: name for name in "abc"}, SplitConfig(file=path, fold=number))


def test_a_subject_torn_between_what_is_learned_and_held_out(tmp_path):
    path = write(tmp_path / "splits.json", (["a1", "b"], ["a2"]), (["a2"], ["a1", "b"]))
    with pytest.raises(DatasetError, match="1 subjects are in two parts: A"):
        make_split({"a1": "A", "a2": "A", "b": "B"}, SplitConfig(file=path, fold=1))


@pytest.mark.parametrize("content", ["{", "{}", '[{"train": ["a"]}]', "[1]", "\xff"])
def test_what_is_no_file_of_folds(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match="expected folds: a JSON list"):
        read_folds(path)
