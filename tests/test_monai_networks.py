"""Networks of MONAI as graphs give what torch gives.

`monai_networks.json` holds, of small networks, names and shapes of their weights, and their logits
at some voxels: from MONAI 1.6.1 and torch 2.13, with weights and image by the formula below.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from vol3dseg.errors import ModelError
from vol3dseg.export.monai.arguments import Component
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.export.monai.networks import read_network, write_network
from vol3dseg.model.head import take_head

KNOWN = json.loads((Path(__file__).parent / "monai_networks.json").read_text())


def numbers(name, shape):
    """Weights that depend on their name alone."""
    found = np.sin(np.arange(int(np.prod(shape))) * 0.7 + sum(map(ord, name))) * 0.5
    if name.endswith("running_var"):
        found = found**2 + 0.5
    return found.reshape(shape).astype(np.float32)


def network_of(tmp_path, arguments):
    (tmp_path / "inference.json").write_text("{}")
    plain = {key: value for key, value in arguments.items() if key != "_target_"}
    config = BundleConfig(tmp_path / "inference.json")
    return read_network(config, Component(arguments["_target_"], plain))


def state_of(weights):
    """What stands as a name is kept under that name already."""
    names = {name: of if isinstance(of, str) else name for name, of in weights.items()}
    return {name: numbers(of, weights[of]) for name, of in names.items()}


def run(graph, image):
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("name", KNOWN)
def test_logits_are_those_of_torch(tmp_path, name):
    known = KNOWN[name]
    network = network_of(tmp_path, known["arguments"])
    order = tuple(reversed(range(network.out_channels)))
    graph = write_network(network, state_of(known["weights"]), order)
    image = numbers("image", (1, network.in_channels, *known["size"]))
    found = run(graph, image)
    assert found.shape == (1, network.out_channels, *known["size"])
    for place, logits in zip(known["places"], known["logits"], strict=True):
        assert found[0, ::-1, *place] == pytest.approx(logits, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", KNOWN)
def test_sides_are_multiples_of_the_divisor(tmp_path, name):
    """Of one voxel less, skip connections would not fit."""
    known = KNOWN[name]
    network = network_of(tmp_path, known["arguments"])
    divisor, order = network.facts().divisor, tuple(range(network.out_channels))
    graph = write_network(network, state_of(known["weights"]), order)
    image = numbers("image", (1, network.in_channels, *(2 * side for side in divisor)))
    assert run(graph, image).shape[2:] == image.shape[2:]


def test_of_many_classes_features_can_be_blended(tmp_path):
    """The last layer is found, so that tiles hold its features and not 40 outputs."""
    known, count = KNOWN["BasicUNet"], 40
    network = network_of(tmp_path, {**known["arguments"], "out_channels": count})
    weights = {**known["weights"], "final_conv.bias": [count]}
    weights["final_conv.weight"] = [count, *weights["final_conv.weight"][1:]]
    graph = write_network(network, state_of(weights), tuple(range(count)))
    image = numbers("image", (1, network.in_channels, *known["size"]))
    whole = run(graph, image)[0]
    head = take_head(graph)
    assert (head.outputs, head.features) == (count, network.features[-1])
    features = run(graph, image)[0]
    assert np.allclose(head.apply(features, slice(0, count)), whole, atol=1e-4)


def test_groups_must_divide_the_channels(tmp_path):
    known = KNOWN["SegResNet"]
    network = network_of(tmp_path, {**known["arguments"], "norm": ["group", {"num_groups": 3}]})
    with pytest.raises(ModelError, match=r"has 4 channels in 3 groups"):
        write_network(network, state_of(known["weights"]), (0, 1, 2))
