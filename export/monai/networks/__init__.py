"""The networks of MONAI that are carried: each a file with its arguments and its layers."""

from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

from vol3dseg.errors import ModelError
from vol3dseg.export.monai.arguments import Component, parsed
from vol3dseg.export.monai.bundle_config import BundleConfig
from vol3dseg.export.monai.layers import Layers, Value
from vol3dseg.export.monai.networks.basic_unet import BasicUNet
from vol3dseg.export.monai.networks.dynunet import DynUNet
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.export.monai.networks.plain_unet import UNet
from vol3dseg.export.monai.networks.segresnet import SegResNet
from vol3dseg.schema import quoted

_KNOWN: Mapping[str, type[Definition]] = {
    "UNet": UNet, "Unet": UNet, "BasicUNet": BasicUNet, "BasicUnet": BasicUNet,
    "Basicunet": BasicUNet, "DynUNet": DynUNet, "DynUnet": DynUNet, "Dynunet": DynUNet,
    "SegResNet": SegResNet,
}  # fmt: skip
_OF_TRAINING = {"dropout", "dropout_prob"}


def read_network(config: BundleConfig, found: Component) -> Definition:
    """Return the network that a component defines; ModelError says what cannot be carried."""
    if found.name not in _KNOWN:
        wanted = "UNet, BasicUNet, DynUNet or SegResNet"
        raise config.refuse(f"network_def is {quoted(found.name)}", expected=wanted)
    given = {key: value for key, value in found.arguments.items() if key not in _OF_TRAINING}
    return parsed(config, _KNOWN[found.name], found.name, given)


def write_network(
    network: Definition, state: Mapping[str, NDArray[Any]], order: tuple[int, ...]
) -> onnx.ModelProto:
    """Return the graph of a network whose logits come in this order of its channels.

    ModelError, which names no file: the weights are not those of such a network.
    """
    layers = Layers(state)
    logits = network.write(layers, Value("image", network.in_channels))
    layers.refuse_unused(network.idle(state))
    if order != tuple(range(logits.channels)):
        logits = layers.reordered(logits, order)
    try:
        return layers.model(type(network).__name__, network.in_channels, logits)
    except ValueError as error:
        raise ModelError(
            f"its layers do not fit together ({' '.join(str(error).split())})"
        ) from error
