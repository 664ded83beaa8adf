"""What a training is said to take: laws of the estimate, and the measured peak beside it."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from vol3dseg import machine as kernel
from vol3dseg.config import ModelConfig, load_config, parse_config
from vol3dseg.training.memory_estimate import (
    NetworkSize,
    choose_micro_batch,
    describe_micro_batch,
)

# A patch of `brats2020` through its U-Net: about 1.5 GB.
NETWORK = NetworkSize(outputs=292_000_000, weights=5_650_000, batch_norm=False)
CASES = [SimpleNamespace(memory_bytes=60 * 2**20)] * 50


def config_with(**training):
    data = load_config("brats2020").model_dump(mode="json")
    data["training"].update(training)
    return parse_config(data, "test")


def chosen(config, free_mb, cases=CASES, network=NETWORK):
    return choose_micro_batch(config, network, cases, cases[:10], start_mb=650, free_mb=free_mb)


@pytest.mark.parametrize(
    ("batch", "free_mb", "size"),
    [
        pytest.param(16, 60_000, 16, id="all of it"),
        pytest.param(16, 22_000, 8, id="half of it"),
        pytest.param(32, 22_000, 8, id="a quarter of it"),
        pytest.param(12, 9_000, 2, id="divisors only"),
        pytest.param(16, 1_000, 1, id="nothing fits"),
        pytest.param(16, None, 16, id="nothing is known"),
    ],
)
def test_the_largest_micro_batch_that_fits_is_taken(batch, free_mb, size):
    choice = chosen(config_with(batch_size=batch), free_mb)
    assert choice.size == size
    assert choice.fits == (free_mb != 1_000)


def test_a_given_micro_batch_is_kept_and_warned_of():
    config = config_with(batch_size=16, micro_batch=16)
    choice = chosen(config, free_mb=8_000)
    assert choice.size == 16
    assert any(
        "warning: that may be more" in line
        for line in describe_micro_batch(config, NETWORK, choice)
    )


def test_more_of_anything_takes_more():
    one, two = (config_with(batch_size=n) for n in (1, 2))
    wide = replace(NETWORK, outputs=2 * NETWORK.outputs, weights=4 * NETWORK.weights)
    choices = [chosen(one, None), chosen(two, None), chosen(two, None, network=wide)]
    assert all(less < more for less, more in pairwise(c.estimate.total_mb for c in choices))
    batch = chosen(one, None, network=replace(NETWORK, batch_norm=True))
    assert batch.estimate.total_mb < choices[0].estimate.total_mb
    averaged = chosen(config_with(batch_size=1, ema=0.99), None)
    copy_mb = averaged.estimate.network_mb - choices[0].estimate.network_mb
    assert copy_mb == pytest.approx(NETWORK.weights * 4 / 2**20)
    few = chosen(config_with(), None, CASES[:3]).estimate.patches_mb
    assert chosen(config_with(), None).estimate.patches_mb > few


@pytest.mark.parametrize(
    ("batch_norm", "loss", "said"),
    [
        (False, "cross_entropy", "each patch is normalised by itself"),
        (True, "cross_entropy", "batch norm takes its statistics from 4 patches"),
        (False, "dice", "the loss pools Dice over 4 patches"),
    ],
)
def test_the_log_says_whose_statistics_count(batch_norm, loss, said):
    config = config_with(batch_size=8, micro_batch=4, loss=loss)
    network = replace(NETWORK, batch_norm=batch_norm)
    *_, line = describe_micro_batch(config, network, chosen(config, 60_000))
    assert "as 2 micro-batches of 4" in line
    assert said in line
    assert ("pools Dice" in line) == (loss == "dice")


def test_a_whole_batch_says_nothing_of_micro_batches():
    config = config_with(batch_size=2)
    (line,) = describe_micro_batch(config, NETWORK, chosen(config, 60_000))
    assert "58.6 GB are free" in line


GB = 2**30
UNIFIED = {"limit": "memory.max", "use": "memory.current", "back": "inactive_file"}
LEGACY = {
    "limit": "memory.limit_in_bytes", "use": "memory.usage_in_bytes", "back": "total_inactive_file",
}  # fmt: skip


def make_group(folder, names, limit, use, back=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names["limit"]).write_text(f"{limit}\n")
    (folder / names["use"]).write_text(f"{use}\n")
    (folder / "memory.stat").write_text(f"cache 7\n{names['back']} {back}\n")


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system with 4 GB to give and no control groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable:    4194304 kB\n")
    monkeypatch.setattr(kernel, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(kernel, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(kernel, "_GROUPS_ROOT", tmp_path / "groups")
    return tmp_path


GROUPS = [
    pytest.param("0::/\n", "", UNIFIED, ("max", GB, 0), 4096, id="no limit"),
    pytest.param("0::/job/step\n", "job/step", UNIFIED, (2 * GB, GB, 0), 1024, id="own group"),
    pytest.param("0::/job/step\n", "job", UNIFIED, (2 * GB, GB, 0), 1024, id="a group above"),
    pytest.param("0::/\n", "", UNIFIED, (3 * GB, 2 * GB, GB), 2048, id="cache can be given back"),
    pytest.param("4:cpu:/x\n3:memory:/x\n", "memory/x", LEGACY, (GB, 0, 0), 1024, id="version 1"),
    pytest.param("0::/job\n", "other", UNIFIED, (GB, 0, 0), 4096, id="another's group"),
    pytest.param("0::/\n", "", UNIFIED, (64 * GB, 0, 0), 4096, id="more than the system has"),
]


@pytest.mark.parametrize(("mine", "group", "names", "values", "left_mb"), GROUPS)
def test_a_container_or_job_may_leave_less_than_the_system(
    mine, group, names, values, left_mb, system
):
    (system / "cgroup").write_text(mine)
    make_group(system / "groups" / group, names, *values)
    assert kernel.available_mb() == left_mb


def test_a_system_without_control_groups(system):
    assert kernel.available_mb() == 4096


def test_fields_of_this_process(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("VmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n")
    monkeypatch.setattr(kernel, "_STATUS", tmp_path / "status")
    assert (kernel.resident_mb(), kernel.peak_mb()) == (100.0, 200.0)


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    for name in ("_STATUS", "_SYSTEM"):
        monkeypatch.setattr(kernel, name, tmp_path / "none")
    assert (kernel.available_mb(), kernel.resident_mb()) == (None, None)


@pytest.mark.train
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize(("depth", "width", "most"), [(1, 4, 320), (3, 8, 24)])
def test_outputs_and_weights_are_those_of_the_network(depth, width, most, norm):
    pytest.importorskip("tensorflow")
    import keras

    from vol3dseg.training.networks.building import size_of
    from vol3dseg.training.networks.unet import build_unet

    config = ModelConfig(depth=depth, width=width, max_width=most, norm=norm)
    model = build_unet(config, channels=3, classes=4)
    side = config.divisor[0] * 2
    every = keras.Model(model.input, [layer.output for layer in model.layers])
    outputs = every(np.zeros((1, side, side, side, 3), np.float32))
    size = size_of(model, (side, side, side))
    assert size.outputs == sum(np.size(output) for output in outputs)
    assert size.weights == sum(np.size(weight) for weight in model.get_weights())
    assert size.batch_norm == (norm == "batch")


@pytest.mark.train
@pytest.mark.alone
def test_the_measured_peak_is_near_the_estimate(tmp_path):
    """In a process of its own, since a peak remembers all that a process has done."""
    pytest.importorskip("tensorflow")
    command = [sys.executable, "-m", "benchmarks.memory", str(tmp_path), "--quick"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads((tmp_path / "quick" / "environment.json").read_text())["memory_mb"]
    growth = {name: found[name] - found["before"] for name in ("peak", "estimated")}
    assert growth["peak"] == pytest.approx(growth["estimated"], rel=0.25)
