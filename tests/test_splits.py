import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vol3dseg.datasets.splits import (
    PARTS,
    Split,
    SplitConfig,
    make_split,
    read_split,
    split_table,
)
from vol3dseg.errors import DatasetError


def one_each(count):
    return {f"case{n:03d}": f"case{n:03d}" for n in range(count)}


scans_of_subjects = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4), st.sampled_from("ABCDEFGHIJ"), min_size=8
).filter(lambda subjects: len(set(subjects.values())) >= 3)


@given(scans_of_subjects, st.integers(0, 99))
def test_every_case_is_in_one_part_and_no_subject_in_two(subjects, seed):
    split = make_split(subjects, SplitConfig(seed=seed))
    assert sorted(split.ids) == sorted(subjects)
    people = [{subjects[i] for i in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, people)) == len(set(subjects.values()))
    assert all(people)


@given(scans_of_subjects, st.randoms())
def test_the_order_of_cases_does_not_matter(subjects, random):
    names = list(subjects)
    random.shuffle(names)
    shuffled = {name: subjects[name] for name in names}
    assert make_split(shuffled, SplitConfig()) == make_split(subjects, SplitConfig())


def test_default_is_the_split_of_the_report():
    split = make_split(one_each(369), SplitConfig())
    assert [len(split.train), len(split.validation), len(split.test)] == [250, 74, 45]


def test_a_seed_names_a_split_for_good():
    split = make_split(one_each(8), SplitConfig(seed=1))
    assert split.validation == ("case000", "case005")
    assert split.test == ("case001",)


def test_another_seed_gives_another_split():
    first, second = (make_split(one_each(40), SplitConfig(seed=s)) for s in (0, 1))
    assert first != second


@pytest.mark.parametrize(
    ("count", "config", "sizes"),
    [
        pytest.param(5, {}, (3, 1, 1), id="default"),
        pytest.param(3, {"test": 0}, (2, 1, 0), id="no test part"),
        pytest.param(30, {"validation": 0.1, "test": 0}, (27, 3, 0), id="exact in decimals"),
        pytest.param(2, {"validation": 0.01, "test": 0}, (1, 1, 0), id="rounded up to one"),
        pytest.param(1, {"validation": 0, "test": 0}, (1, 0, 0), id="all for training"),
    ],
)
def test_sizes_of_parts(count, config, sizes):
    split = make_split(one_each(count), SplitConfig(**config))
    assert (len(split.train), len(split.validation), len(split.test)) == sizes


@pytest.mark.parametrize("count", [pytest.param(n, id=f"{n} subjects") for n in (0, 1, 2)])
def test_nothing_left_for_training(count):
    with pytest.raises(DatasetError, match=f"{count} subjects are too few.*lower split.validation"):
        make_split(one_each(count), SplitConfig())


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_shares_are_shares(value):
    with pytest.raises(ValidationError):
        SplitConfig(validation=value)


def test_a_split_comes_back_from_its_file(tmp_path):
    split = make_split(one_each(20), SplitConfig())
    split.write(tmp_path / "split.json")
    assert read_split(tmp_path / "split.json") == split
    assert make_split(one_each(20), SplitConfig(file=tmp_path / "split.json")) == split


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("{", "is damaged .*not valid JSON", id="no JSON"),
        pytest.param("[]", "expected a split: JSON with the lists", id="no mapping"),
        pytest.param('{"validation": []}', "train is missing", id="no train"),
        pytest.param('{"train": ["a"], "val": ["b"]}', "unknown key 'val'", id="unknown part"),
        pytest.param('{"train": ["a"], "test": ["a"]}', "listed twice: a", id="in two parts"),
        pytest.param('{"train": ["a", "a"]}', "listed twice: a", id="twice in one part"),
        pytest.param('{"train": [1]}', "train.0", id="no names"),
    ],
)
def test_a_file_that_is_no_split(tmp_path, content, message):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_split(path)
    assert str(path) in str(caught.value)


def test_a_missing_file():
    with pytest.raises(DatasetError, match=r"nowhere.json: is missing; expected a split: JSON"):
        read_split(Path("nowhere.json"))


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        pytest.param({"train": ["a1", "a2", "b", "x"]}, "1 cases are unknown: x", id="unknown"),
        pytest.param({"train": ["a1", "a2"]}, "1 cases are in no part: b", id="left out"),
        pytest.param(
            {"train": ["a1", "b"], "test": ["a2"]},
            "subjects are in two parts: A",
            id="torn subject",
        ),
        pytest.param(
            {"train": [], "test": ["a1", "a2", "b"]}, "no case is in train", id="no train"
        ),
    ],
)
def test_a_file_that_does_not_fit_the_cases(tmp_path, lists, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(lists))
    with pytest.raises(DatasetError, match=message):
        make_split({"a1": "A", "a2": "A", "b": "B"}, SplitConfig(file=path))


def test_parts_by_name():
    split = Split(train=("a", "b"), validation=("c",), test=("d",))
    assert split.part("test") == ("d",)
    with pytest.raises(DatasetError, match=r"no part 'val'.*train, validation, test"):
        split.part("val")


def test_table_counts_subjects_and_cases():
    split = Split(train=("a1", "a2", "b"), validation=("c",))
    subjects = {"a1": "A", "a2": "A", "b": "B", "c": "C"}
    table = split_table(split, subjects, dict.fromkeys(subjects, 1.5), {})
    assert table.splitlines()[2:] == [
        "| train | 2 | 3 | 75.0% | 1.5 | 1.5 to 1.5 |",
        "| validation | 1 | 1 | 25.0% | 1.5 | 1.5 to 1.5 |",
        "| test | 0 | 0 | 0.0% | - | - |",
    ]


def test_table_with_volumes():
    split = Split(train=("a", "b", "c"), validation=("d",))
    volumes_ml = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 12.5}
    lines = split_table(
        split, {i: i for i in "abcd"}, volumes_ml, {"no label map": 3, "failed": 1}
    ).splitlines()
    assert lines[2:] == [
        "| train | 3 | 3 | 37.5% | 2 | 1.5 to 3 |",
        "| validation | 1 | 1 | 12.5% | 12.5 | 12.5 to 12.5 |",
        "| test | 0 | 0 | 0.0% | - | - |",
        "| no label map | - | 3 | 37.5% | - | - |",
        "| failed | - | 1 | 12.5% | - | - |",
    ]
    assert {line.count("|") for line in lines} == {7}


volumes_of_subjects = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.sampled_from([0.0, 0.1, 1.0, 2.5, 40.0]) | st.floats(0, 300),
    min_size=5,
    max_size=60,
)


@given(volumes_of_subjects, st.integers(0, 99), st.floats(0, 0.5), st.floats(0, 0.5))
def test_below_any_volume_a_stratified_part_has_its_share_up_to_one(volumes, seed, share, other):
    subjects = {name: name for name in volumes}
    config = {"validation": share, "test": other, "seed": seed}
    plain = make_split(subjects, SplitConfig(**config))
    split = make_split(subjects, SplitConfig(**config, stratify=True), volumes)
    assert sorted(split.ids) == sorted(volumes)
    assert [len(split.part(p)) for p in PARTS] == [len(plain.part(p)) for p in PARTS]

    def has_its_share(part, among):
        for limit in set(volumes.values()):
            below = [name for name in among if volumes[name] < limit]
            expected = len(below) * len(part) / len(among)
            assert abs(len(set(below) & set(part)) - expected) <= 1

    has_its_share(split.validation, split.ids)
    has_its_share(split.test, split.train + split.test)


@given(scans_of_subjects, st.randoms(), st.integers(0, 9))
def test_a_stratified_split_depends_on_seed_and_subjects_alone(subjects, random, seed):
    config = SplitConfig(seed=seed, stratify=True)
    volumes_ml = {case: 0.1 * len(case) for case in subjects}
    split = make_split(subjects, config, volumes_ml)
    people = [{subjects[i] for i in split.part(part)} for part in PARTS]
    assert sum(map(len, people)) == len(set(subjects.values()))
    names = list(subjects)
    random.shuffle(names)
    assert make_split({name: subjects[name] for name in names}, config, volumes_ml) == split


def test_it_is_the_subject_whose_volume_counts():
    """Twelve subjects of one large scan, twelve of as much in three scans, twelve tiny ones."""
    subjects, volumes_ml = {}, {}
    for n in range(12):
        cases = {f"one{n}": 30.0, **{f"three{n}-{i}": 10.0 for i in range(3)}, f"tiny{n}": 1.0}
        subjects |= {case: case.split("-")[0] for case in cases}
        volumes_ml |= cases
    config = SplitConfig(validation=1 / 12, test=0, stratify=True)
    found = [
        make_split(subjects, config.model_copy(update={"seed": s}), volumes_ml) for s in range(20)
    ]
    people = [{subjects[i] for i in split.validation} for split in found]
    assert {sum(name.startswith("tiny") for name in names) for names in people} == {1}
    # Were it the scan, there would be one of the three scans each time.
    assert {sum(name.startswith("three") for name in names) for names in people} == {0, 1, 2}


def test_another_seed_gives_another_stratified_split():
    volumes_ml = dict.fromkeys(one_each(40), 1.0)
    configs = (SplitConfig(seed=s, stratify=True) for s in (0, 1))
    first, second = (make_split(one_each(40), config, volumes_ml) for config in configs)
    assert first != second


@pytest.mark.parametrize("volumes_ml", [None, {"case000": 1.0}])
def test_an_unknown_volume_is_refused(volumes_ml):
    config = SplitConfig(stratify=True)
    with pytest.raises(DatasetError, match=r"split\.stratify: .*case001.* to false"):
        make_split(one_each(5), config, volumes_ml)


def test_a_split_in_words():
    words = SplitConfig(validation=0.125, seed=3).in_words
    assert "12.5 % of all subjects for validation, 15 % of the others" in words
    assert "seed 3." in words
    assert "stratified" in SplitConfig(stratify=True).in_words
    assert SplitConfig(file=Path("s.json")).in_words == "Read from s.json."
