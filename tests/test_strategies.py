"""Who trains together: what environment variables say, and all for which a team is refused."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import small_config
from vol3dseg.errors import ConfigError, DeviceError, ModelError, RunError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.train

import keras  # noqa: E402 - after the skip
import tensorflow as tf  # noqa: E402

from vol3dseg.training.cluster_config import (  # noqa: E402
    Cluster,
    await_first,
    cluster_of,
    read_tf_config,
)
from vol3dseg.training.networks import norms  # noqa: E402
from vol3dseg.training.shared_step import require_shareable, require_shares  # noqa: E402
from vol3dseg.training.team import Team, team_of  # noqa: E402
from vol3dseg.training.watching import quiet  # noqa: E402

TWO = ["a:1", "b:2"]


def of(workers, index=0, **more):
    return json.dumps({"cluster": {"worker": workers, **more}, "task": {"index": index}})


def team(replicas=2, number=0):
    class Strategy:
        num_replicas_in_sync = replicas

    return Team("multi-worker", Strategy(), tuple(TWO), number)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("{", "not valid JSON", id="no JSON"),
        pytest.param("[]", "is damaged or of another version", id="a list"),
        pytest.param('{"cluster": {"worker": ["a:1"]}}', "task", id="no task"),
        pytest.param(of([]), "names no worker", id="no worker"),
        pytest.param(of(["a:1"], ps=["b:2"]), "names ps, and there are workers only", id="ps"),
        pytest.param(of(["a"]), "worker 'a' is no HOST:PORT", id="no port"),
        pytest.param(of(["a:70000"]), "worker 'a:70000' is no HOST:PORT", id="port too large"),
        pytest.param(of(["a:1", "a:1"]), "names a worker twice", id="twice"),
        pytest.param(of(TWO, 2), "task.index is 2, of 2 workers counted from 0", id="index"),
        pytest.param(of(TWO, -1), "task.index", id="negative"),
    ],
)
def test_a_tf_config_that_is_none_is_refused_in_words(text, said):
    with pytest.raises(DeviceError, match=r"TF_CONFIG: .*; expected as .*; set it on") as error:
        read_tf_config(text)
    assert said in str(error.value)


def test_who_the_workers_are(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DeviceError, match="neither TF_CONFIG nor SLURM names the workers"):
        cluster_of()
    monkeypatch.setenv("TF_CONFIG", of(["[::1]:22", "host.b:2222"], 1))
    assert cluster_of().workers == ("[::1]:22", "host.b:2222")
    monkeypatch.setenv("TF_CONFIG", "")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(DeviceError, match="SLURM does not say who the workers are"):
        cluster_of()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[01-02]")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x2)")
    found = cluster_of()
    assert (found.workers, found.number) == (("node01:8888", "node02:8888"), 1)


def test_a_first_worker_that_does_not_come_is_waited_for_so_long_and_no_longer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        await_first(Cluster((address, "b:2"), 1, None), 0, quiet)
    said = []
    with pytest.raises(DeviceError, match=rf"worker 0 \({address}\) cannot be reached"):
        await_first(Cluster((address, "b:2"), 1, None), 0, said.append)
    assert said == [f"worker 1 waits for worker 0 ({address}), 0 s at most"]


def test_a_machine_without_a_gpu_has_no_mirrored_devices():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match="finds no GPU, only /device:CPU:0; expected a GPU"):
        team_of("mirrored", quiet)
    with pytest.raises(DeviceError, match="expected mirrored or multi-worker"):
        team_of("horovod", quiet)


@pytest.mark.parametrize("key", ["batch_size", "micro_batch"])
def test_a_batch_that_does_not_divide_is_refused(key, recipe):
    sizes = {"batch_size": 6, "micro_batch": 3} if key == "micro_batch" else {"batch_size": 3}
    training = small_config(recipe, **sizes).training
    with pytest.raises(ConfigError, match=rf"training\.{key} is 3, and 2 devices share it"):
        require_shares(training, team())
    require_shares(training, Team())


def test_a_layer_that_would_learn_other_statistics_on_each_device_is_refused():
    def network(norm):
        image = keras.Input((None, None, None, 1))
        return keras.Model(image, keras.layers.Dropout(0.5)(norm(image)), name="mine")

    require_shareable(network(norms.BatchNormalization()), team())
    require_shareable(network(norms.InstanceNormalization()), team())
    theirs = network(keras.layers.BatchNormalization(name="bn"))
    require_shareable(theirs, Team())
    with pytest.raises(ModelError, match="layer 'bn' of network 'mine', a BatchNormalization"):
        require_shareable(theirs, team())


def test_workers_must_agree(monkeypatch):
    facts = [{"config": {"seed": 1, "epochs": 9}}, {"config": {"seed": 2, "epochs": 9}}]
    monkeypatch.setattr(Team, "texts", lambda self, text: [json.dumps(f) for f in facts])
    with pytest.raises(
        RunError,
        match=r"^worker 1 \(b:2\) and worker 0 \(a:1\) differ in config.seed: 2 and 1; expected",
    ):
        team().require_agreement(facts[0])
    facts[1] = facts[0]
    team().require_agreement(facts[0])


def test_the_loss_of_a_worker_is_told_in_a_line_and_a_bug_keeps_its_traceback():
    lost = tf.errors.UnavailableError(None, None, "from /job:worker/task:1: unhealthy")
    with pytest.raises(RunError, match=r"^worker 1 \(b:2\) ended, or .*--resume"), team().watched():
        raise lost
    with pytest.raises(RunError, match=r"^worker 0 \(a:1\) ended"), team(number=1).watched():
        raise lost
    with pytest.raises(tf.errors.UnavailableError), Team().watched():
        raise lost
    with pytest.raises(tf.errors.InvalidArgumentError), team().watched():
        raise tf.errors.InvalidArgumentError(None, None, "a bug")


def test_two_devices_see_the_sums_that_one_would():
    """Every loss with its gradient, batch norm with its statistics, the counts of metrics."""
    script = Path(__file__).with_name("two_devices.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--locate",), "--strategy is for one config at a time, and not for --locate"),
        (("-c", "a.yaml", "-c", "b.yaml"), "--strategy is for one config at a time"),
    ],
)
def test_what_a_strategy_is_not_for(words, said, vol3dseg, tmp_path):
    done = vol3dseg("train", tmp_path, "-o", tmp_path / "run", "--strategy", "mirrored", *words)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
