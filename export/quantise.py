"""A float32 graph becomes one that computes in 8-bit integers, and is judged on whole volumes.

Static quantisation as QDQ nodes: before each convolution its input is rounded to 256 steps and its
weights to 255, a scale of their own for each output channel. The runtime then fuses convolution,
rectifier and rounding into one kernel of integers. Instance norms stay in float32, and so does the
last convolution: half of what int8 lost in Dice was lost there, and it takes next to no time.

What was found by trying, in OpenVINO 2026.4 on a processor with AVX512-VNNI:

- no rounding between a convolution and its rectifier, or the two are not fused;
- both inputs of a Concat with one scale, rounded before it and not again after it: then it copies
  bytes, as MaxPool does;
- activations unsigned: signed ones are computed wrong after a Concat (negative values became 0);
- a ConvTranspose is one of integers only if the zero of its input is 0;
- an instance norm as one node: spelled out as arithmetic, it is computed wrong after a convolution
  of integers (the mean is scaled twice).

Runtimes fuse nodes in ways of their own, and not all of them are right, so both graphs are judged
where int8 is worth its while: in OpenVINO, if it is installed.
"""

import contextlib
import io
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    TensorData,
    TensorsData,
    create_calibrator,
)

from vol3dseg.errors import ModelError, ParityError, RunError
from vol3dseg.evaluation.scoring import CaseScores, evaluate_case, summarise
from vol3dseg.export.instance_norm import drop_unused
from vol3dseg.inference import Device
from vol3dseg.inference.loading import make_predictor, open_session
from vol3dseg.inference.predictor import Predictor
from vol3dseg.inference.runtimes.openvino_backend import is_installed
from vol3dseg.model.manifest import Manifest, Quantisation
from vol3dseg.model.model_file import ModelFile
from vol3dseg.preprocessing.store import StoredCase

LARGEST_DROP = 0.002
_OPERATORS = ("Conv", "ConvTranspose", "Concat", "MaxPool")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
# They copy or choose values, so what is rounded before them need not be rounded after them.
_PASS_ON = ("Concat", "MaxPool")
# Of all values of a tensor, the share that its range holds [%]. The few beyond it would take steps
# away from all others: labels agreed on 99.4 % of voxels, and on 99.3 % with the whole range.
_PERCENTILE = 99.999
# What a leaky rectifier leaves of negative values, against the largest positive one: at most.
_LEAK = 0.05


def quantise(model: onnx.ModelProto, patches: NDArray[np.float32]) -> onnx.ModelProto:
    """Return a graph that computes convolutions in integers, with ranges found on real patches.

    Instance norms of `model` must not be spelled out; `patches` (n, i, j, k, c) are of training
    cases. Inputs and outputs stay the same; standard operators only.
    """
    if len(patches) == 0:
        raise ModelError("int8: found no patches to find ranges on", expected="at least one")
    named = _with_names(model)
    last = [node.name for node in named.graph.node if node.op_type == "Conv"][-1:]
    ranges = _ranges(named, patches)
    _share_ranges(named.graph, ranges)
    quantizer = QDQQuantizer(
        named,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=last,
        op_types_to_quantize=list(_OPERATORS),
        extra_options={
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(_CONVOLUTIONS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: onnx.ModelProto = quantizer.model.model
    _drop_repeated_rounding(quantised.graph)
    drop_unused(quantised.graph)
    del quantised.graph.value_info[:]
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every node has a name, which onnxruntime tells them by."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for number, node in enumerate(named.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return named


def _ranges(model: onnx.ModelProto, patches: NDArray[np.float32]) -> TensorsData:
    """Return the range of each tensor that convolutions see, over all patches."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "float32.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            list(_OPERATORS),
            augmented_model_path=str(Path(folder) / "watched.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"percentile": _PERCENTILE},
        )
        # All tensors of what is given at once are kept in memory: one patch at a time.
        for patch in patches:
            inputs = iter([{"image": np.ascontiguousarray(np.moveaxis(patch, -1, 0)[None])}])
            calibrator.collect_data(SimpleNamespace(get_next=partial(next, inputs, None)))
        return calibrator.compute_data()


def _share_ranges(graph: onnx.GraphProto, ranges: TensorsData) -> None:
    """Give what a Concat takes and gives one range; cut leaked values off before ConvTranspose."""
    for node in graph.node:
        if node.op_type == "Concat":
            names = [*node.input, *node.output]
            low, high = zip(*(ranges[name].range_value for name in names), strict=True)
            for name in names:
                ranges[name] = TensorData(lowest=min(low), highest=max(high))
        elif node.op_type == "ConvTranspose":
            low, high = ranges[node.input[0]].range_value
            if -low <= _LEAK * high:
                ranges[node.input[0]] = TensorData(lowest=np.float32(0), highest=high)


def _drop_repeated_rounding(graph: onnx.GraphProto) -> None:
    """Remove the rounding of what only passes on rounded values, which would change nothing."""
    passed_on = {name for node in graph.node if node.op_type in _PASS_ON for name in node.output}
    for node in list(graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] in passed_on:
            for back in _taking(graph, node.output):
                for taker in _taking(graph, back.output):
                    names = [node.input[0] if n in back.output else n for n in taker.input]
                    taker.input[:] = names
                graph.node.remove(back)
            graph.node.remove(node)


def _taking(graph: onnx.GraphProto, names: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that take any of these values."""
    wanted = set(names)
    return [node for node in graph.node if wanted.intersection(node.input)]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network loses against another one on whole volumes.

    `mean_dice` is the mean over foreground classes of their mean Dice over cases, None if no case
    has any; `dice_drop` how much it is below the other network's, NaN if it is None for either.
    """

    cases: int
    mean_dice: float | None
    dice_drop: float
    label_agreement: float


def quantise_proven(
    plain: onnx.ModelProto,
    content: bytes,
    manifest: Manifest,
    patches: NDArray[np.float32],
    cases: Mapping[str, StoredCase],
    where: str,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[onnx.ModelProto, Manifest]:
    """Return the network in 8-bit integers, and its manifest with what that cost.

    `plain` has instance norms as single nodes; `content` is the float32 graph that was proven to
    equal the trained model. Ranges are found on `patches` of training cases, the cost on `cases`,
    the validation part. `where` is the file to be written, for messages.
    """
    remedy = "export it without --int8"
    if not cases:
        found = "not written: int8 is judged on the validation part, and there is none"
        raise RunError(found, where=where, remedy=remedy)
    quantised = quantise(plain, patches)
    device: Device = "openvino" if is_installed() else "cpu"
    file = ModelFile(content, manifest, sha256="")  # one plan for both
    session = open_session(quantised.SerializeToString(), device)
    reference = make_predictor(file, open_session(content, device))
    cost = measure_cost(reference, make_predictor(file, session), cases, progress)
    if cost.mean_dice is None:
        raise RunError(
            f"not written: int8 is judged by Dice, but none of the {cost.cases} validation cases "
            "has a class of the foreground",
            where=where,
            remedy=remedy,
        )
    if not cost.dice_drop <= LARGEST_DROP:
        raise ParityError(
            f"not written: int8 lowers mean Dice on {cost.cases} validation cases by "
            f"{cost.dice_drop:.4f}, to {cost.mean_dice:.4f} ({session.provider})",
            where=where,
            expected=f"at most {LARGEST_DROP}",
            remedy=remedy,
        )
    facts = Quantisation(
        precision="int8",
        patches=len(patches),
        provider=session.provider,
        tolerance=LARGEST_DROP,
        **asdict(cost),
    )
    return quantised, manifest.model_copy(update={"quantisation": facts})


def measure_cost(
    reference: Predictor,
    judged: Predictor,
    cases: Mapping[str, StoredCase],
    progress: Callable[[str], None] = lambda line: None,
) -> Cost:
    """Segment whole scans with two networks of one manifest, and compare what they say."""
    scores: tuple[list[CaseScores], list[CaseScores]] = [], []
    equal = voxels = 0
    for number, (name, case) in enumerate(cases.items(), start=1):
        prepared, truth = case.prepared(), case.reference(reference.manifest.labels)
        found = [
            each.segment(prepared.volume, prepared.source).segmentation
            for each in (reference, judged)
        ]
        for kept, segmentation in zip(scores, found, strict=True):
            kept.append(evaluate_case(name, truth, segmentation))
        equal += int(np.count_nonzero(found[0].array == found[1].array))
        voxels += truth.array.size
        if number % 10 == 0 or number == len(cases):
            progress(f"int8 against float32 on whole volumes {number}/{len(cases)}")
    before, after = (summarise(part).mean_foreground_dice for part in scores)
    drop = math.nan if before is None or after is None else before - after
    return Cost(len(cases), after, drop, equal / voxels)
