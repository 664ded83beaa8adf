"""Paths that no system takes, wherever they enter: one error of ours, and nothing is written."""

import pytest

import vol3dseg
from vol3dseg.cli import main as command_line
from vol3dseg.datasets.case import Case, ImageSource
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import OutputError, Vol3dSegError
from vol3dseg.inference.output_files import PredictOptions
from vol3dseg.inference.predicting import predict
from vol3dseg.preprocessing.prepare_dataset import preprocess

ENTRANCES = {
    "find_cases": lambda path, it: vol3dseg.find_cases(path),
    "load_config": lambda path, it: vol3dseg.load_config(path),
    "load_predictor": lambda path, it: vol3dseg.load_predictor(path),
    "describe": lambda path, it: vol3dseg.describe(path),
    "check": lambda path, it: vol3dseg.check(path),
    "preprocess from": lambda path, it: vol3dseg.preprocess(path, "new", it.config),
    "preprocess to": lambda path, it: vol3dseg.preprocess(it.cases, path, it.config),
    "preprocess with": lambda path, it: vol3dseg.preprocess(it.cases, "new", path),
    "plan": lambda path, it: vol3dseg.plan(it.cases, path),
    "predict from": lambda path, it: vol3dseg.predict(it.model, path, "new"),
    "predict to": lambda path, it: vol3dseg.predict(it.model, it.cases, path),
    "predict on to": lambda path, it: vol3dseg.predict(
        it.model, it.cases, path, PredictOptions(resume=True)
    ),
    "predict of": lambda path, it: vol3dseg.predict(
        it.model, it.cases, "new", PredictOptions(split=path)
    ),
    "evaluate": lambda path, it: vol3dseg.evaluate(path, it.cases, "new"),
    "evaluate against": lambda path, it: vol3dseg.evaluate(it.cases, path, "new"),
    "evaluate to": lambda path, it: vol3dseg.evaluate(it.cases, it.cases, path),
    "write_table": lambda path, it: vol3dseg.write_table(find_cases(it.cases), path),
}


class Given:
    """What is right beside the path that is not."""

    def __init__(self, cases, config, model):
        self.cases, self.config, self.model = cases, config, model


@pytest.fixture
def given(brats_folder, config_path, model_path):
    return Given(brats_folder, config_path, model_path)


@pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("x" * 300, id="long name"),
        pytest.param("/".join(["y" * 200] * 30), id="long path"),
        pytest.param("a\0b", id="NUL"),
        pytest.param("a\0b/c", id="below NUL"),
        pytest.param("loop", id="circle"),
        pytest.param("file/x", id="below a file"),
    ],
)
def test_it_is_one_error_of_ours(enter, name, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Vol3dSegError) as raised:
        enter(name, given)
    assert "\0" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("length", [246, 249, 252, 300])
def test_names_made_of_a_case_are_tried_before_the_first(
    length, brats_folder, config_path, model_path, tmp_path
):
    first, *others = find_cases(brats_folder)
    cases = [*others, Case("c" * length, first.subject, first.images, first.label)]
    done = []
    told = lambda outcome, total: done.append(outcome)  # noqa: E731
    fits = {"P": length + len(".begun") <= 255, "O": length + len(".nii.gz") <= 255}
    for folder, work in {
        "P": lambda: preprocess(cases, tmp_path / "P", config_path, progress=told),
        "O": lambda: predict(model_path, cases, tmp_path / "O", progress=told),
    }.items():
        done.clear()
        if fits[folder]:
            work()
            assert len(done) == 3
        else:
            with pytest.raises(OutputError, match="File name too long"):
                work()
            assert not done


def test_an_image_with_such_a_name_fails_its_case_alone(brats_folder, config_path, tmp_path):
    first, *others = find_cases(brats_folder)
    for name in ("a\0b.nii.gz", f"{'x' * 300}.nii.gz"):
        images = {**first.images, "flair": ImageSource(tmp_path / name)}
        cases = [Case(first.id, first.subject, images, first.label), *others]
        index = preprocess(cases, tmp_path / "P", config_path)
        assert index.failed.keys() == {first.id}
        assert not index.tracebacks


def test_the_command_line_says_it_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # which it sets, and which shall not stay
    monkeypatch.setattr("sys.argv", ["vol3dseg", "info", "x" * 300])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: xxx")
    assert "File name too long" in line
