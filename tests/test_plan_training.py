"""What a plan says of a network and of this machine, beside Keras' own account."""

import io
import json
import sys

import pytest

pytest.importorskip("tensorflow")

from vol3dseg.config import load_config, parse_config
from vol3dseg.datasets.phantom import make_phantoms
from vol3dseg.planning.make_plan import plan
from vol3dseg.planning.network_size import size_of_unet
from vol3dseg.planning.step_speed import measuring
from vol3dseg.planning.workload import Speed
from vol3dseg.preprocessing.prepare_dataset import preprocess
from vol3dseg.training import speed_probe
from vol3dseg.training.fit import train
from vol3dseg.training.networks.building import build_network, size_of

pytestmark = pytest.mark.train


def config_with(patch=(16, 16, 8), **model):
    data = load_config("hippocampus").model_dump(mode="json")
    data["recipe"]["patch_size"] = list(patch)
    data["model"] = {"depth": 2, "width": 4, "norm": "batch", **model}
    data["training"] |= {
        "batch_size": 2, "precision": "float32", "grow_patch": None, "deep_supervision": False,
    }  # fmt: skip
    return parse_config(data, "test")


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"norm": "instance", "dropout": 0.1},
        {"max_width": 6},
        {"strides": [[2, 2, 1], [2, 2, 2]], "kernels": [[3, 3, 1], [3, 3, 1], [3, 3, 3]]},
        {"depth": 1, "strides": [[2, 4, 1]]},
        {"encoder": "residual", "blocks": [1, 2, 3]},
        {"encoder": "residual", "blocks": [2, 1, 1], "max_width": 4, "norm": "instance"},
    ],
    ids=str,
)
def test_the_size_counted_from_a_config_is_that_of_its_network(model):
    config = config_with(**model)
    network = build_network(config)
    assert size_of_unet(config) == size_of(network, config.recipe.patch_size)


def test_heads_of_deep_supervision_are_counted():
    config = config_with((16, 16, 16), depth=4).chosen(deep_supervision=True)
    assert size_of_unet(config) == size_of(build_network(config), config.recipe.patch_size)


def test_a_child_measures_steps():
    with measuring() as measure:
        speed = measure(config_with())
    assert "measured: " in speed.how
    assert speed.program_mb > 100
    assert speed.precision == "float32"
    assert speed.flops_per_s > 0


def test_each_line_is_answered_whatever_libraries_print(monkeypatch, capfd):
    configs = [config_with(), config_with((8, 8, 8)).chosen(precision="auto")]
    lines = "".join(config.model_dump_json() + "\n" for config in configs)
    measure = speed_probe.measure_steps

    def prints(config):
        sys.stdout.write("as a library may\n")
        return measure(config)

    monkeypatch.setattr(speed_probe, "measure_steps", prints)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # given back afterwards
    speed_probe.main()
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first["precision"] == "float32"
    assert second["precision"] in {"float32", "bfloat16"}  # is chosen, no longer auto
    for answer in (first, second):
        assert 0 < answer["step_s"] < answer["first_s"]


def test_a_child_that_ends_is_done_without():
    with measuring((sys.executable, "-c", "pass")) as measure:
        assert "NumPy's product" in measure(config_with()).how


def test_a_plan_of_one_case_trains_and_a_patch_that_is_too_large_is_said(tmp_path):
    make_phantoms(tmp_path / "D", cases=1, seed=0, shape=(24, 20, 16))
    made = plan(tmp_path / "D", memory_mb=4000, speed=Speed(1e11))
    data = made.config.chosen(epochs=1, steps_per_epoch=1, precision="float32").model_dump()
    data["model"] |= {"width": 2}
    data["recipe"]["patch_size"] = [64, 64, 64]
    config = parse_config(data, "test")
    assert config.split.validation == 0
    preprocess(tmp_path / "D", tmp_path / "P", config)
    said = []
    manifest = train(tmp_path / "P", tmp_path / "R", config, progress=said.append)
    assert manifest.members[0].cases == {"train": 1, "validation": 0, "test": 0}
    assert manifest.network.local
    assert any(line.startswith("warning: patches of 64x64x64 voxels are larger") for line in said)
