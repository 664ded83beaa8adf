"""Work on a real Dask cluster on loopback: what is lost with a worker, a scheduler, a path."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from benchmarks.dask_processes import DaskProcesses
from tests.conftest import members, write_case
from vol3dseg.cli.main import main
from vol3dseg.datasets import cluster as module
from vol3dseg.datasets import reaching_cluster
from vol3dseg.datasets.case import Case
from vol3dseg.datasets.checks import check
from vol3dseg.datasets.over_cases import over_cases
from vol3dseg.datasets.reaching_cluster import open_cluster
from vol3dseg.errors import ClusterError, ModelError
from vol3dseg.inference.predicting import predict
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.record import load_record
from vol3dseg.machine import usable_cores
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.reporting.inspection.inspection_report import inspect
from vol3dseg.reporting.score_predictions import evaluate
from vol3dseg.written import LIST_NAME, is_ours

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals")

CASES = [Case(f"{number:03d}", "somebody", {}) for number in range(12)]


@pytest.fixture
def dask(tmp_path):
    (tmp_path / "dask").mkdir()
    with DaskProcesses(tmp_path / "dask") as made:
        yield made


@pytest.fixture
def two(dask):
    dask.work()
    dask.work()
    dask.await_workers(2)
    return dask


@pytest.fixture(scope="session")
def ten(tmp_path_factory):
    """Ten small cases."""
    folder = tmp_path_factory.mktemp("ten") / "brats"
    for number in range(10):
        write_case(folder, f"Case_{number:03d}", np.random.default_rng(number))
    return folder


@pytest.fixture(scope="module")
def local():
    """Two workers of a scheduler of our own."""
    with open_cluster("local:2") as cluster:
        yield cluster


def contents(folder):
    """Bytes of all files that are compared; the list of a folder keeps older lines."""
    files = (path for path in folder.rglob("*") if path.is_file())
    left = {".vol3dseg-files", "predictions.json"}
    return {str(p.relative_to(folder)): p.read_bytes() for p in files if p.name not in left}


def command(*words, **named):
    code = "from vol3dseg.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **named,
    )  # fmt: skip


def refused(monkeypatch, capsys, *words):
    """Run a command in this process; gives the one line that it ends with."""
    monkeypatch.setattr(sys, "argv", ["vol3dseg", *map(str, words)])
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---------------------------------------------------------------- the same as in one process


def test_results_are_those_of_one_process(ten, local, config_path, model_path, tmp_path):
    preprocess(ten, tmp_path / "here", config_path)
    preprocess(ten, tmp_path / "there", config_path, workers=local)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    for name, workers in (("one", 1), ("two", 2), ("dask", local)):
        predict(model_path, ten, tmp_path / "seg" / name, workers=workers)
        evaluate(tmp_path / "seg" / name, ten, tmp_path / "scores" / name, workers=workers)
    one, *others = (contents(tmp_path / "seg" / name) for name in ("one", "two", "dask"))
    assert others == [one, one]
    one, *others = (contents(tmp_path / "scores" / name) for name in ("one", "two", "dask"))
    for page, name in zip((one, *others), ("one", "two", "dask"), strict=True):  # it names folders
        page["report.html"] = page["report.html"].replace(f"/{name}".encode(), b"/NAME")
    assert others == [one, one]


def test_records_are_those_of_one_process(ten, local, model_path, tmp_path):
    found = []
    for name, workers in (("one", 1), ("two", 2), ("dask", local)):
        predict(model_path, ten, tmp_path / name, workers=workers)
        record = load_record(tmp_path / name)
        measured = {"seconds": {}, "peak_mb": None, "planned_mb": None}
        made = {i: case.model_copy(update=measured) for i, case in record.cases.items()}
        found.append(record.model_copy(update={"cases": made}).model_dump_json())
    assert found[1:] == found[:1] * 2


def test_paths_may_be_relative(ten, two, config_path, tmp_path, monkeypatch):
    """The workers stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ten, tmp_path / "data")
    with open_cluster(two.address) as cluster:
        index = preprocess(Path("data"), Path("out"), config_path, workers=cluster)
    assert len(index.cases) == 10
    assert len(list((tmp_path / "out" / "cases").glob("*.h5"))) == 10
    assert list(two.folder.glob("**/*.h5")) == []


def test_files_stay_ours_where_lines_of_their_list_overwrite_each_other(
    ten, local, config_path, model_path, tmp_path
):
    def lose(folder):
        path = folder / LIST_NAME
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))

    stored, segmented = tmp_path / "stored", tmp_path / "segmented"
    preprocess(ten, stored, config_path, local, progress=lambda *_: lose(stored / "cases"))
    predict(model_path, ten, segmented, progress=lambda *_: lose(segmented), workers=local)
    for folder, pattern in ((stored / "cases", "*.h5"), (segmented, "*.nii.gz")):
        assert [is_ours(path) for path in folder.glob(pattern)] == [True] * 10


def test_dasks_own_executor_will_do(ten, two, model_path, tmp_path):
    with distributed.Client(two.address, set_as_default=False) as client:
        record = predict(model_path, ten, tmp_path / "seg", workers=client.get_executor())
    assert [bool(case.file) for case in record.cases.values()] == [True] * 10


def noted(folder, seconds, case):
    """Work for a while, and note that this was done."""
    (folder / f"{case.id}.{os.getpid()}").touch()
    time.sleep(seconds)
    return case.id, os.getpid(), usable_cores()


def deadly(number, case):
    if case.id == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return case.id


def died(case, error):
    return f"{case.id}: {error.found}"


def test_workers_share_the_cores_and_each_case_is_worked_on_once(two, tmp_path):
    with open_cluster(two.address) as cluster:
        found = list(over_cases(partial(noted, tmp_path, 0.05), CASES, cluster, died))
    assert sorted(case for case, _, _ in found) == [case.id for case in CASES]
    assert len({pid for _, pid, _ in found}) == 2
    assert {cores for _, _, cores in found} == {max(1, usable_cores() // 2)}
    assert len(list(tmp_path.glob("0*"))) == len(CASES)


def test_workers_that_come_later_get_work(dask, tmp_path):
    dask.work()
    with open_cluster(dask.address) as cluster:
        results = over_cases(partial(noted, tmp_path, 0.5), CASES, cluster, died)
        first = next(results)
        dask.work()
        assert len({pid for _, pid, _ in [first, *results]}) == 2


# ---------------------------------------------------------------- what may die


def test_a_worker_that_is_killed_half_way_costs_nothing(ten, two, config_path, tmp_path):
    preprocess(ten, tmp_path / "here", config_path)
    told = []

    def kill(outcome, total):
        told.append(outcome.case_id)
        if len(told) == 3:
            two.workers[0].kill()

    with open_cluster(two.address) as cluster:
        preprocess(ten, tmp_path / "there", config_path, cluster, progress=kill)
    assert sorted(told) == [f"Case_{number:03d}" for number in range(10)]
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_case_that_kills_its_workers_is_named_and_the_others_go_on(local):
    found = list(over_cases(partial(deadly, "004"), CASES, local, died))
    said = "004: its worker process was killed, perhaps for want of memory, and again when the " \
        "case was tried alone"  # fmt: skip
    assert sorted(found) == sorted([said, *(case.id for case in CASES if case.id != "004")])


def test_a_scheduler_that_is_restarted_ends_it_in_one_line_and_it_goes_on_then(
    ten, two, config_path, tmp_path, monkeypatch, capsys
):
    words = ("preprocess", ten, "-o", tmp_path / "out", "-c", config_path)
    process = command(*words, "--cluster", two.address)
    while not list((tmp_path / "out").glob("cases/*.h5")):
        time.sleep(0.01)
    two.scheduler.kill()
    two.scheduler.wait()
    two.scheduler = two.schedule()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        1,
        f"error: cluster {two.address}: its scheduler was lost or restarted, and all that it had "
        "been given; what is done is kept; see that it runs and has workers, and run the same "
        "command again\n",
    )
    index = preprocess(ten, tmp_path / "out", config_path)
    assert len(index.cases) == 10


def test_where_all_workers_are_gone_that_is_said(dask, tmp_path, monkeypatch):
    worker = dask.work()
    monkeypatch.setattr(module, "_WITHOUT_S", 1.0)
    monkeypatch.setattr(module, "_LOOK_S", 0.5)
    with open_cluster(dask.address) as cluster:
        results = over_cases(partial(noted, tmp_path, 0.2), CASES, cluster, died)
        next(results)
        worker.kill()
        with pytest.raises(ClusterError, match=r"has had no worker for 1 s; .* start workers"):
            list(results)


@pytest.mark.parametrize("where", ["two", "local"])
def test_ctrl_c_stops_without_a_word_of_the_workers(where, ten, config_path, tmp_path, request):
    address = "local:2" if where == "local" else request.getfixturevalue("two").address
    words = ("preprocess", ten, "-o", tmp_path / "out", "-c", config_path, "--cluster", address)
    process = command(*words, start_new_session=True)
    while not list((tmp_path / "out").glob("cases/*.h5")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert err == "stopped: what is prepared is kept; the same command goes on\n"
    ended = time.monotonic() + 5  # multiprocessing's own helper sees a moment later that it is over
    while members(process.pid) and time.monotonic() < ended:
        time.sleep(0.05)
    assert members(process.pid) == []
    assert len(preprocess(ten, tmp_path / "out", config_path).cases) == 10


def test_workers_of_our_own_end_for_good_even_those_that_replace_killed_ones(monkeypatch):
    """Dask's own close may wait for a new one for ever, so they have ended before it."""
    found = []
    with suppress(KeyboardInterrupt), reaching_cluster._started(2) as own:
        nannies, close = list(own.workers.values()), own.close

        def look_and_close():
            found.extend(nanny.status.name for nanny in nannies)
            close()

        monkeypatch.setattr(own, "close", look_and_close)
        reaching_cluster._kill(own)  # which Dask answers with two others
        raise KeyboardInterrupt
    assert found == ["closed"] * 2


# ---------------------------------------------------------------- what workers do not see


@pytest.fixture
def blind(dask, tmp_path):
    """Two kinds of workers: whose folder of that name is an empty one, and others."""
    words = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-r", "-m"]

    def blind(folder):
        code = f'mount -t tmpfs none {folder} && exec "$@"'
        hidden = [*words, "sh", "-c", code, "sh"]
        if subprocess.run([*hidden, "true"], check=False, capture_output=True).returncode:
            pytest.skip("no mount namespaces: unshare -m is not permitted here")
        dask.work(*hidden)
        return dask.address

    return blind


EXPECTED = (
    "; expected a file system that all workers share, under the same path; mount it there, or "
    "start workers where it is"
)


@pytest.mark.parametrize("hidden", ["data", "out"])
def test_a_path_that_workers_do_not_see_is_named(
    hidden, ten, blind, config_path, tmp_path, monkeypatch, capsys
):
    data, out = shutil.copytree(ten, tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    words = (
        "preprocess",
        data,
        "-o",
        out,
        "-c",
        config_path,
        "--cluster",
        blind(tmp_path / hidden),
    )
    line = refused(monkeypatch, capsys, *words)
    named = out if hidden == "out" else rf"{data}/Case_\d+/Case_\d+_flair\.nii\.gz"
    assert re.fullmatch(
        rf"error: worker tcp://127\.0\.0\.1:\d+: does not see {named}{EXPECTED}", line
    )
    assert not list(out.glob("cases/*.h5"))


def test_a_model_that_workers_do_not_see_is_named(ten, blind, model_path, tmp_path):
    (tmp_path / "models").mkdir()
    model = shutil.move(model_path, tmp_path / "models" / "m.onnx")
    with (
        open_cluster(blind(tmp_path / "models")) as cluster,
        pytest.raises(ClusterError, match=rf"worker .*: does not see {model}; expected"),
    ):
        predict(model, ten, tmp_path / "seg", workers=cluster)


def test_a_predictor_without_a_file_is_refused(ten, local, manifest, tmp_path):
    predictor = Predictor(lambda patch: patch, manifest)
    with pytest.raises(ModelError, match=r"was not made of a file.*workers=1"):
        predict(predictor, ten, tmp_path / "seg", workers=local)


def test_another_version_is_refused(local, monkeypatch):
    monkeypatch.setattr(module, "__version__", "9.9")  # which errands take along from here
    errand = module._Errand(str, (), None, {}, "9.9")
    with pytest.raises(ClusterError, match=r"worker .* has vol3dseg .*; expected 9\.9"):
        local.submit(errand, CASES[0]).result()


# ---------------------------------------------------------------- what is no cluster


@pytest.mark.parametrize(
    "address", ["here", "tcp://here", "tcp://:1", "http://h:1", "local:0", "local:", "tcp://h:x"]
)
def test_what_is_no_address_is_refused(address):
    with (
        pytest.raises(ClusterError, match=r"is no address; expected tcp://HOST:PORT or"),
        open_cluster(address),
    ):
        pass


@pytest.mark.parametrize(
    ("does", "said"),
    [
        pytest.param("silent", "no answer in 1 s", id="silent"),
        pytest.param("speaks", "what answers is not Dask", id="another protocol"),
    ],
)
def test_what_is_no_scheduler_is_refused_in_bounded_time(does, said, monkeypatch):
    monkeypatch.setattr(reaching_cluster, "_ANSWER_S", 1.0)
    held = []

    def answer(server):
        while True:
            try:
                held.append(server.accept()[0])
                if does == "speaks":
                    held[-1].sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 9)
            except OSError:
                return

    started = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=answer, args=(server,), daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(ClusterError, match=rf"is no scheduler \({said}\)"),
            open_cluster(address),
        ):
            pass
        server.shutdown(socket.SHUT_RDWR)
    for connection in held:
        connection.close()
    assert time.monotonic() - started < 10


def test_a_scheduler_without_workers_is_refused(dask, monkeypatch):
    monkeypatch.setattr(reaching_cluster, "_ANSWER_S", 1.0)
    with (
        pytest.raises(ClusterError, match="has no workers; start some"),
        open_cluster(dask.address),
    ):
        pass


def test_one_of_workers_and_cluster_is_given(vol3dseg):
    done = vol3dseg("evaluate", "a", "b", "-o", "c", "--cluster", "local:2", "--workers", 2)
    assert done.returncode == 2
    assert "give --workers or --cluster" in done.stderr


def test_dask_that_is_missing_is_named():
    code = (
        "import sys; sys.modules['distributed'] = None; from vol3dseg.cli.main import main; main()"
    )
    words = ("evaluate", "a", "b", "-o", "c", "--cluster", "local:2")
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: distributed is not installed; install it with: pip install 'vol3dseg[cluster]'\n",
    )


def test_check_and_inspect_find_the_same_there(ten, local, tmp_path):
    pytest.importorskip("PIL")
    assert check(ten, executor=local) == check(ten)
    pages = {}
    for name, workers in (("one", 1), ("dask", local)):
        inspect(ten, tmp_path / name, workers=workers)
        pages[name] = contents(tmp_path / name)
    assert pages["one"] == pages["dask"]


def test_dask_is_imported_only_where_it_is_asked_for():
    code = "import vol3dseg.inference.predicting, vol3dseg.datasets.reaching_cluster, sys; " \
        "print({'dask', 'distributed', 'tornado'} & {*sys.modules})"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
