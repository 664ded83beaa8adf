"""Networks of nnU-Net for tests: what plans say, weights by torch's names, and what comes of them.

`run` is the network once more, in numpy, straight from the weights and along the network's own
axes: slow, and with nothing in common with the graph.
"""

from itertools import product

import numpy as np

NAMES = "dynamic_network_architectures.architectures.unet."
THIN = {  # three levels, of slices that are far apart
    "features_per_stage": [3, 4, 5],
    "kernel_sizes": [[1, 3, 3], [3, 3, 5], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 3], [2, 2, 1]],
}


def configuration(kind="PlainConvUNet", **changes):
    """One configuration of plans."""
    plain = kind == "PlainConvUNet"
    arguments = {
        "n_stages": 3,
        **THIN,
        "n_conv_per_stage" if plain else "n_blocks_per_stage": [2, 1, 2] if plain else [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **changes,
    }
    described = {"network_class_name": NAMES + kind, "arch_kwargs": arguments}
    return {"patch_size": [8, 24, 24], "architecture": described}


def state_of(architecture, channels, outputs, rng):
    """Weights as torch lists them: each layer twice, the encoder once more within the decoder."""
    state = {}

    def numbers(name, *shape):
        state[name] = rng.normal(0, 0.4, shape).astype(np.float32)

    def layer(name, before, features, kernel, bias=architecture.bias, dropout=architecture.dropout):
        numbers(f"{name}.conv.weight", features, before, *kernel)
        if bias:
            numbers(f"{name}.conv.bias", features)
        if architecture.affine:
            numbers(f"{name}.norm.weight", features)
            numbers(f"{name}.norm.bias", features)
        if architecture.statistics:
            numbers(f"{name}.norm.running_mean", features)
            state[f"{name}.norm.running_var"] = rng.uniform(0.2, 2, features).astype(np.float32)
            state[f"{name}.norm.num_batches_tracked"] = np.array(7)
        for module, place in (("conv", 0), ("norm", 2 if dropout else 1)):
            own = f"{name}.{module}."
            for key in [key for key in state if key.startswith(own)]:
                state[f"{name}.all_modules.{place}.{key.removeprefix(own)}"] = state[key]

    stages, before = architecture.stages, channels
    if architecture.residual:
        layer("encoder.stem.convs.0", before, architecture.stem, stages[0].kernel)
        before = architecture.stem
    for number, stage in enumerate(stages):
        for block in range(stage.blocks):
            if architecture.residual:
                name = f"encoder.stages.{number}.blocks.{block}"
                within = stage.bottleneck
                if within:
                    layer(f"{name}.conv1", before, within, (1, 1, 1), dropout=False)
                    layer(f"{name}.conv2", within, within, stage.kernel)
                    layer(f"{name}.conv3", within, stage.features, (1, 1, 1), dropout=False)
                else:
                    layer(f"{name}.conv1", before, stage.features, stage.kernel)
                    layer(f"{name}.conv2", *[stage.features] * 2, stage.kernel, dropout=False)
                if before != stage.features:
                    place = int(not block and stage.stride != (1, 1, 1))
                    one = (1, 1, 1)
                    name = f"{name}.skip.{place}"
                    layer(name, before, stage.features, one, bias=False, dropout=False)
            else:
                name = f"encoder.stages.{number}.0.convs.{block}"
                layer(name, before, stage.features, stage.kernel)
            before = stage.features
    state |= {f"decoder.{name}": weights for name, weights in state.items()}
    for number, stage in enumerate(reversed(stages[:-1])):
        below = stages[-1 - number]
        name = f"decoder.transpconvs.{number}"
        numbers(f"{name}.weight", below.features, stage.features, *below.stride)
        if architecture.bias:
            numbers(f"{name}.bias", stage.features)
        for block in range(stage.decoder):
            before = stage.features if block else 2 * stage.features
            name = f"decoder.stages.{number}.convs.{block}"
            layer(name, before, stage.features, stage.kernel)
        numbers(f"decoder.seg_layers.{number}.weight", outputs, stage.features, 1, 1, 1)
        numbers(f"decoder.seg_layers.{number}.bias", outputs)
    return state


def run(architecture, state, image):
    """Logits of (channel, ...) voxels along the network's axes."""

    def layer(name, values, stride=(1, 1, 1), activated=True):
        values = convolved(values, state, f"{name}.conv", stride)
        parts = ("weight", "bias", "running_mean", "running_var")
        found = [state.get(f"{name}.norm.{part}") for part in parts]
        values = normed(values, *found, architecture.epsilon)
        return activate(values) if activated else values

    def activate(values):
        return np.where(values > 0, values, architecture.slope * values)

    values, skips = image.astype(np.float64), []
    if architecture.residual:
        values = layer("encoder.stem.convs.0", values)
    for number, stage in enumerate(architecture.stages):
        for block in range(stage.blocks):
            stride = (1, 1, 1) if block else stage.stride
            if not architecture.residual:
                values = layer(f"encoder.stages.{number}.0.convs.{block}", values, stride)
                continue
            name = f"encoder.stages.{number}.blocks.{block}"
            if stage.bottleneck:
                inner = layer(f"{name}.conv2", layer(f"{name}.conv1", values), stride)
                inner = layer(f"{name}.conv3", inner, activated=False)
            else:
                inner = layer(f"{name}.conv1", values, stride)
                inner = layer(f"{name}.conv2", inner, activated=False)
            skip = pooled(values, stride)
            for place in (0, 1):
                if f"{name}.skip.{place}.conv.weight" in state:
                    skip = layer(f"{name}.skip.{place}", skip, activated=False)
            values = activate(inner + skip)
        skips.append(values)
    for number, stage in enumerate(reversed(architecture.stages[:-1])):
        up = unfolded(values, state, f"decoder.transpconvs.{number}")
        values = np.concatenate([up, skips[-2 - number]])
        for block in range(stage.decoder):
            values = layer(f"decoder.stages.{number}.convs.{block}", values)
    head = f"decoder.seg_layers.{len(architecture.stages) - 2}"
    return convolved(values, state, head, (1, 1, 1))


def convolved(values, state, name, stride):
    weights = state[f"{name}.weight"].astype(np.float64)
    kernel, sides = weights.shape[2:], values.shape[1:]
    padded = np.pad(values, [(0, 0), *((k // 2, k // 2) for k in kernel)])
    found = 0
    for place in product(*map(range, kernel)):
        window = tuple(slice(p, p + n, s) for p, n, s in zip(place, sides, stride, strict=True))
        found = found + np.tensordot(weights[:, :, *place], padded[:, *window], 1)
    return found + state.get(f"{name}.bias", np.zeros(len(weights)))[:, None, None, None]


def unfolded(values, state, name):
    weights = state[f"{name}.weight"].astype(np.float64)
    found = sum(np.kron(v[None], w) for v, w in zip(values, weights, strict=True))
    return found + state.get(f"{name}.bias", np.zeros(len(found)))[:, None, None, None]


def pooled(values, stride):
    count, *sides = values.shape
    split = [n for side, s in zip(sides, stride, strict=True) for n in (side // s, s)]
    return values.reshape(count, *split).mean(axis=(2, 4, 6))


def normed(values, scale, shift, mean, variance, epsilon):
    """Norm by statistics of training, or else by those of the values."""
    axes = (1, 2, 3)
    if mean is None:
        mean, variance = values.mean(axis=axes), values.var(axis=axes)
    found = (values - along_channels(mean)) / np.sqrt(along_channels(variance) + epsilon)
    if scale is None:
        return found
    return found * along_channels(scale) + along_channels(shift)


def along_channels(values):
    return values[:, None, None, None].astype(np.float64)
