"""The benchmark's own arithmetic, its tables, and how it speaks with workers."""

import json
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import measuring, rows
from benchmarks.measuring import Host, measure
from benchmarks.referee import Referee, gflop, prepare_case
from benchmarks.rows import Contestant, Given
from benchmarks.table import Row, Section, markdown, ratio, stages, write_json
from benchmarks.workers import Reply, Worker, WorkerError, environment
from vol3dseg.datasets.layouts import find_cases
from vol3dseg.errors import ModelError
from vol3dseg.formats.nifti import nifti_file as nifti
from vol3dseg.preprocessing.prepare import restore_labels
from vol3dseg.space.labels import Segmentation

ROOT = Path(__file__).resolve().parents[1]
times = st.lists(st.floats(0.01, 100), min_size=1, max_size=7)


def row(name, *seconds, **more):
    return Row(name, "somewhere", tuple(seconds), **more)


@given(times, st.floats(0.1, 10))
def test_a_row_that_always_takes_a_fraction_is_that_many_times_as_fast(seconds, factor):
    slow, fast = row("slow", *(factor * s for s in seconds)), row("fast", *seconds)
    assert ratio(slow, fast) == pytest.approx(factor)
    assert ratio(fast, fast) == 1


def test_a_round_in_which_the_machine_was_slow_for_all_changes_no_ratio():
    assert ratio(row("a", 2, 20, 2), row("b", 1, 10, 1)) == 2


def test_a_table_names_who_was_left_out_and_what_was_missed():
    theirs = row("theirs", 8.0, 8.0, peak_mb=1000.0)
    asked = {"theirs": 2.0, "absent": 9.0}
    ours = row("ours", 5.0, 5.0, asked=asked, agreement=0.5, facts={"how": "one pass"})
    absent = Row("absent", "nowhere", problem="there is no .bench/nowhere")
    text = markdown(Section("Title", [theirs, ours, absent], ["theirs", "absent"], ["a note"]))
    lines = text.splitlines()
    assert "| contestant | median [s] | least [s] | x theirs | asked |" in lines[2]
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert (
        "| ours | 5.000 | 5.000 | 1.60 | 2 x theirs: missed | - | 50.0000 % | one pass |" in lines
    )
    assert "- a note" in lines
    assert "- left out: absent: there is no .bench/nowhere" in lines


def test_stages_add_up_to_the_whole():
    known = {"stages": {"read": 1.0, "infer": 2.0, "write": 0.5}}
    text = stages(Section("Title", [row("theirs", 9.0), row("ours", 4.0, facts=known)]))
    assert text.splitlines()[-1] == "| ours | 1.000 | 2.000 | 0.500 | 0.500 | 50% |"
    assert stages(Section("Title", [row("theirs", 9.0)])) == ""


def test_json_holds_what_the_table_holds(tmp_path):
    path, base = tmp_path / "out.json", row("theirs", 4.0)
    absent = Row("absent", "nowhere", problem="none")
    section = Section("Title", [base, row("ours", 1.0, 3.0)], ["theirs"])
    with pytest.raises(ValueError, match="zip"):  # rounds of unequal number cannot be compared
        write_json(path, {}, [section])
    write_json(
        path, {"threads": 2}, [Section("Title", [base, row("ours", 2.0), absent], ["theirs"])]
    )
    told = json.loads(path.read_text(encoding="utf-8"))
    assert told["threads"] == 2
    found = {each["name"]: each for each in told["sections"][0]["rows"]}
    assert found["ours"]["ratios"] == {"theirs": 2.0}
    assert found["absent"]["median"] is None


def convolution(kind, weights, stride):
    """A graph of one convolution."""
    channels = weights.shape[1] if kind == "Conv" else weights.shape[0]
    pads = [1] * 6 if weights.shape[2] == 3 else [0] * 6
    node = onnx.helper.make_node(kind, ["image", "w"], ["out"], strides=[stride] * 3, pads=pads)
    ends = [onnx.helper.make_tensor_value_info("image", 1, ["n", channels, "i", "j", "k"])]
    outs = [onnx.helper.make_tensor_value_info("out", 1, None)]
    initial = [onnx.numpy_helper.from_array(weights, "w")]
    graph = onnx.helper.make_graph([node], "one", ends, outs, initial)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


@pytest.mark.parametrize(
    ("kind", "shape", "stride", "expected"),
    [
        pytest.param("Conv", (5, 3, 3, 3, 3), 1, 2 * 5 * 3 * 27 * 8 * 8 * 16, id="same size"),
        pytest.param("Conv", (5, 3, 1, 1, 1), 1, 2 * 5 * 3 * 8 * 8 * 16, id="one voxel wide"),
        pytest.param("ConvTranspose", (6, 5, 2, 2, 2), 2, 2 * 6 * 5 * 8 * 8 * 8 * 16, id="up"),
    ],
)
def test_arithmetic_is_counted_for_the_padded_volume(kind, shape, stride, expected):
    model = convolution(kind, np.zeros(shape, dtype=np.float32), stride)
    assert gflop(model, (4, 4, 4), (8, 7, 13)) * 1e9 == pytest.approx(expected)


FAKE = """
import os, sys, time
from benchmarks.contestants.protocol import serve

print("what a library prints while it is imported")
kept = []

def make(settings):
    if settings.get("broken"):
        raise ValueError("these settings do not suit me")
    def run(most=None):
        print("what a library prints while it works")
        os.write(1, b'{"not": "a reply"}\\n')
        time.sleep(0.05)
        return {"most": most, "threads": os.environ["OMP_NUM_THREADS"], "name": settings["name"]}
    def fail():
        raise RuntimeError("no memory left")
    def die():
        sys.stderr.write("I cannot go on\\n")
        os._exit(3)
    def allocate(mb):
        size = len(bytearray(os.urandom(1)) * (mb * 2**20))
        return {"size": size}
    return {"run": run, "fail": fail, "die": die, "allocate": allocate}

serve(make, ("numpy", "no-such-package"))
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a worker that does as the tests want."""
    (tmp_path / "fake_worker.py").write_text(FAKE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    started = []

    def start(**settings):
        given = {"name": "fake", **settings}
        worker = Worker(Path(sys.executable), "fake_worker", given, tmp_path / "log", 2)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.close()


def test_a_worker_answers_each_line_whatever_else_is_printed(start):
    worker = start()
    assert worker.versions["numpy"] == np.__version__
    assert "no-such-package" not in worker.versions
    for most in (1, 2):
        reply = worker.ask("run", most=most)
        assert reply.facts == {"most": most, "threads": "2", "name": "fake"}
        assert 0.05 <= reply.seconds < worker.loading.seconds + 5


def test_a_worker_that_fails_says_why_and_goes_on(start):
    worker = start()
    with pytest.raises(WorkerError, match="RuntimeError: no memory left"):
        worker.ask("fail")
    with pytest.raises(WorkerError, match="no call 'walk'; this worker has run, fail"):
        worker.ask("walk")
    assert worker.ask("run").facts["name"] == "fake"


def test_the_last_words_of_a_dead_worker_are_told(start):
    worker = start()
    with pytest.raises(WorkerError, match=r"code 3; its last words: .*I cannot go on"):
        worker.ask("die")
    with pytest.raises(WorkerError, match="code 3"):
        worker.ask("run")
    with pytest.raises(WorkerError, match="these settings do not suit me"):
        start(broken=True)


def test_peak_memory_is_that_of_the_call_alone(start):
    worker = start()
    if worker.loading.peak_mb is None:
        pytest.skip("this system does not tell the peak of a process")
    idle, busy, again = worker.ask("run"), worker.ask("allocate", mb=256), worker.ask("run")
    assert 250 < busy.peak_mb - idle.peak_mb < 300
    assert again.peak_mb - idle.peak_mb < 20


def test_openblas_is_let_free_and_threads_are_said_to_all(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    found = environment(2)
    assert "OPENBLAS_CORETYPE" not in found
    assert {found[n] for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "nnUNet_def_n_proc")} == {"2"}


class Recorder:
    """Stands for `Worker`; notes who is asked when."""

    order: ClassVar = []
    closed: ClassVar = []

    def __init__(self, python, module, settings, log, threads):
        self.settings, self.versions = settings, {"threads": str(threads)}
        self.loading = Reply(1.0, 900.0, {})
        if settings["name"] == "unborn":
            raise WorkerError("could not be loaded")

    def ask(self, call, **arguments):
        name = self.settings["name"]
        self.order.append((name, *arguments))
        if name == "weak" and self.order.count(("weak",)) > 1:
            raise WorkerError("tired")
        return Reply(float(len(self.order)), 100.0 * len(name), {"call": call})

    def close(self):
        self.closed.append(self.settings["name"])


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setattr(measuring, "Worker", Recorder)
    monkeypatch.setattr(measuring, "_REST", 0.0)
    monkeypatch.setattr(measuring, "python_of", {"here": Path("python")}.get)
    Recorder.order, Recorder.closed = [], []
    return Recorder


def contestant(name, where="here", processes=1):
    return Contestant(name, where, "none", {"name": name}, processes=processes)


def test_contestants_take_turns_there_and_back(recorder, tmp_path):
    found = measure([contestant("a"), contestant("b")], 3, Host(2, tmp_path))
    assert [name for name, *_ in recorder.order] == list("ab" + "ab" + "ba" + "ab")
    assert [len(each.replies) for each in found] == [3, 3]
    assert found[0].first.seconds == 1.0
    assert found[0].peak_mb == 900.0, "loading counts"
    assert sorted(recorder.closed) == ["a", "b"]


def test_who_fails_is_named_and_the_others_go_on(recorder, tmp_path):
    everyone = [contestant(n) for n in ("weak", "unborn", "fit")] + [contestant("far", "away")]
    found = {m.contestant.name: m for m in measure(everyone, 3, Host(2, tmp_path))}
    table = {name: each.row() for name, each in found.items()}
    assert len(table["fit"].seconds) == 3
    assert "tired" in table["weak"].problem
    assert table["weak"].seconds == ()
    assert "could not be loaded" in table["unborn"].problem
    assert ".bench/away" in table["far"].problem
    failed = {name for name, each in table.items() if each.failed}
    assert failed == {"weak", "unborn"}, "an environment that nobody has made is no failure"


def test_processes_share_the_threads(recorder, tmp_path):
    found = measure([contestant("a", processes=2)], 0, Host(2, tmp_path), warming={"most": 2})
    assert found[0].versions == {"threads": "1"}
    assert recorder.order == [("a", "most")]


@pytest.fixture
def everyone(tmp_path):
    """All contestants of all sections, by section."""
    (tmp_path / "model-int8.onnx").touch()
    given = Given(tmp_path, tmp_path, {"flair": "flair.nii.gz"}, [96] * 3, 16, 2)
    return {
        "network": rows.network(given),
        "files": rows.files(given),
        "limited": rows.limited(given, "ours_files", 1000.0),
        "ct": rows.ct(given, tmp_path / "ct.nii.gz", 2000.0),
        "preparation": rows.preparation(given, tmp_path, [{"images": {"flair": ""}}], 2),
        "matrices": rows.matrices(given),
        "reference": [rows.reference(given)],
    }


def test_every_contestant_has_a_worker_and_settings_that_travel(everyone):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for section in everyone.values():
        assert len({who.name for who in section}) == len(section)
        for who in section:
            assert (ROOT / "benchmarks" / "contestants" / f"{who.module}.py").is_file()
            assert f"$(BENCH)/{who.environment}/.ready:" in makefile
            assert json.loads(json.dumps(who.settings)) == who.settings


def test_what_is_asked_is_asked_against_rows_that_are_there(everyone):
    baselines = {"network": rows.NETWORK_BASELINES, "files": rows.FILE_BASELINES}
    for section, names in baselines.items():
        assert set(names) <= {who.name for who in everyone[section]}
        asked = [who.asked for who in everyone[section] if who.asked]
        assert asked
        assert all(set(each) <= set(names) for each in asked)
    assert rows.FLOAT32 in {who.name for who in everyone["network"]}
    outputs = [who.settings["output"] for who in everyone["files"]]
    assert len(set(outputs)) == len(outputs), "nobody writes over another's answer"


@pytest.fixture
def referee(brats_folder, manifest, tmp_path):
    return prepare_case(find_cases(brats_folder)[0], manifest, tmp_path / "work")


def test_all_are_given_what_predict_would_see(referee, recipe):
    image = np.load(referee.folder / "prepared.npy")
    np.testing.assert_array_equal(image, referee.prepared.volume.array)
    assert referee.image_agreement(referee.folder / "prepared.npy") == 1
    np.save(referee.folder / "other.npy", image[1:])
    assert referee.image_agreement(referee.folder / "other.npy") == 0
    patch = np.load(referee.folder / "patch.npy")
    assert patch.shape == (1, len(recipe.modalities), *recipe.patch_size)


@pytest.mark.parametrize("classes_in_file", [True, False])
def test_agreement_is_counted_where_the_network_looked(referee: Referee, classes_in_file, labels):
    prepared = referee.prepared
    shape = prepared.volume.geometry.shape
    rng = np.random.default_rng(0)
    reference = rng.integers(0, len(labels.classes), shape).astype(np.uint8)
    path = referee.folder / "answer.nii.gz"
    other = reference.copy()
    other[: shape[0] // 2] = (other[: shape[0] // 2] + 1) % len(labels.classes)
    home = restore_labels(Segmentation(other, prepared.volume.geometry, labels), prepared.source)
    values = home.array if classes_in_file else labels.decode(home.array)
    nifti.write(path, values, home.geometry)
    assert referee.file_agreement(path, classes_in_file) is None, "there is no reference yet"
    np.save(referee.folder / "reference.npy", reference)
    expected = 1 - (shape[0] // 2) / shape[0]
    assert referee.file_agreement(path, classes_in_file) == pytest.approx(expected)
    np.save(referee.folder / "answer.npy", other)
    assert referee.network_agreement(referee.folder / "answer.npy") == pytest.approx(expected)


def test_recipes_that_the_others_do_not_have_are_refused(brats_folder, manifest, tmp_path):
    recipe = manifest.recipe.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)})
    other = manifest.model_copy(update={"recipe": recipe})
    with pytest.raises(ModelError, match="without resampling"):
        prepare_case(find_cases(brats_folder)[0], other, tmp_path / "work")


def test_versions_are_pinned_and_do_not_quarrel_with_ours():
    def pins(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
        return {name.lower().replace("_", "-"): version for name, version in pairs}

    ours, theirs = pins(ROOT / "constraints.txt"), pins(ROOT / "benchmarks" / "constraints.txt")
    assert {"torch", "monai", "nnunetv2", "onnxruntime-openvino"} <= theirs.keys()
    assert not ours.keys() & theirs.keys()


@pytest.mark.train
def test_random_weights_find_every_class_and_their_norms_do_something():
    pytest.importorskip("tensorflow")
    from benchmarks.weights import _noise, random_unet
    from vol3dseg.config import ModelConfig

    model = random_unet(ModelConfig(width=4, depth=2, norm="batch"), channels=3, classes=4)
    for kind, plain in {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}.items():
        found = [w.numpy() for w in model.weights if w.name == kind]
        assert found
        assert all(np.abs(values - plain).max() > 0.01 for values in found)
    seen = model.predict_on_batch(_noise(3, np.random.default_rng(1))).argmax(axis=-1)
    assert np.bincount(seen.ravel(), minlength=4).min() > 0.02 * seen.size
