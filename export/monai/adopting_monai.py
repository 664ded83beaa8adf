"""Adopt a bundle of MONAI: read it, assemble its manifest, prove it, write one file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from pydantic import ValidationError

from vol3dseg.errors import FileFormatError, ModelError
from vol3dseg.export.monai.arguments import Component, component
from vol3dseg.export.monai.bundle import Bundle, read_bundle
from vol3dseg.export.monai.inferer import read_inferer
from vol3dseg.export.monai.monai_postprocessing import describe, read_postprocessing
from vol3dseg.export.monai.monai_proof import prove
from vol3dseg.export.monai.monai_run import FRAMEWORK, OwnModel, require_monai
from vol3dseg.export.monai.networks import read_network, write_network
from vol3dseg.export.monai.networks.network_definition import Definition
from vol3dseg.export.monai.transforms import read_preprocessing
from vol3dseg.files import require_writable
from vol3dseg.inference import Device
from vol3dseg.inference.loading import predictor_of
from vol3dseg.model.adopted import AdoptedFacts
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.model_file import ModelFile, with_manifest
from vol3dseg.model.network_check import require_sound_network
from vol3dseg.model.provenance import provenance
from vol3dseg.model.signing_keys import Signer, signer_of, write_model, written_for
from vol3dseg.recipe import MonaiRecipe
from vol3dseg.schema import problems
from vol3dseg.space.box import Shape

Tell = Callable[[str], None]
_PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino")


def adopt_monai(
    bundle: str | Path,
    output: str | Path,
    *,
    paint: Sequence[str] = (),
    cases: Sequence[str | Path] = (),
    keep_case: bool = True,
    device: Device = "auto",
    sign: str | Path | Signer | None = None,
    progress: Tell = lambda line: None,
) -> Manifest:
    """Turn a bundle of MONAI into one self-describing ONNX file; needs neither MONAI nor torch.

    Parameters
    ----------
    bundle : str or Path
        Its folder, with configs/inference.json, configs/metadata.json and models/model.pt.
    output : str or Path
    paint : sequence of str
        Of independent channels, the order in which they become one label map, widest first.
    cases : sequence of str or Path
        Scans on which it must give MONAI's labels, as `predict` takes them; the extra [monai]
        brings it. Without any, nothing is proven, and the model says so.
    keep_case : bool
        Keep a small part of one of them in the file, for `vol3dseg info --replay`.
    device : "auto", "cpu", "cuda", "tensorrt" or "openvino"
        What the proof runs on.
    sign : str, Path, Signer or None
        A private key in PEM: its signature is written beside the file, as in `export_onnx`.
    progress : callable
        Called with a line of text now and then.

    Returns
    -------
    Manifest
        As it stands in the file.

    Raises
    ------
    ModelError
        It is no bundle, or one that cannot be carried: the message names what of it.
    FileFormatError
        Its weights are damaged, or hold what is not on the closed list.
    ParityError
        More labels differ from MONAI's than rounding explains. Nothing is written then.
    TrustError
        The model is to be signed by what is no such key, or is locked.
    MissingExtraError
        MONAI is to be run and is not installed; or a package that signs is not.

    Examples
    --------
    >>> adopt_monai("spleen_ct_segmentation", "model.onnx")  # doctest: +SKIP
    """
    output, signer = Path(output), signer_of(sign)
    require_writable(output.parent, [path.name for path in written_for(output, signer)])
    if cases:
        require_monai()
    found = read_bundle(Path(bundle))
    graph, manifest, own = _assembled(found, paint)
    progress(f"{found.metadata.name or 'bundle'}: {own.network.name}, {found.weights.name}")
    require_sound_network(graph, manifest, output)
    replay = None
    if cases:
        predictor = predictor_of(ModelFile.of(with_manifest(graph, manifest), manifest), device)
        proof, replay = prove(predictor, [Path(each) for each in cases], own, keep_case, progress)
        manifest = manifest.model_copy(update={"proof": proof})
    write_model(output, with_manifest(graph, manifest, replay), signer)
    return manifest


def _assembled(bundle: Bundle, paint: Sequence[str]) -> tuple[onnx.ModelProto, Manifest, OwnModel]:
    """Return the network, what the file says of itself, and what MONAI would run."""
    config, metadata = bundle.config, bundle.metadata
    before = read_preprocessing(config)
    after = read_postprocessing(config, before.steps)
    inferer = read_inferer(config)
    said, network = _network(bundle, inferer.patch_size)
    described = describe(config, after, metadata.channels, paint)
    try:
        graph = write_network(network, bundle.state, described.order)
    except (ModelError, FileFormatError) as error:
        raise error.at(bundle.weights) from error
    try:
        recipe = MonaiRecipe(
            kind="monai", modalities=tuple(metadata.modalities), steps=before.steps,
            patch_size=inferer.patch_size,
        )  # fmt: skip
        manifest = Manifest(
            recipe=recipe,
            fingerprint=recipe.fingerprint,
            labels=described.labels,
            network=network.facts(),
            outputs=described.outputs,
            tiling=inferer.tiling,
            members=(_facts(bundle, said.name),),
            provenance=provenance(*_PACKAGES),
        )
    except ValidationError as error:
        raise config.refuse(f"cannot be carried: {problems(error)}") from error
    own = OwnModel(
        before.transforms,
        after.transforms,
        said._replace(arguments=network.model_dump(exclude_unset=True)),
        inferer.arguments,
        bundle.state,
        described.order,
    )
    return graph, manifest, own


def _network(bundle: Bundle, patch: Shape) -> tuple[Component, Definition]:
    """Return the network that a bundle defines, which takes its channels and such patches."""
    config, metadata = bundle.config, bundle.metadata
    said = component(config, config.part("network_def", "network"), "network_def")
    if said is None:
        raise config.refuse("its network_def is disabled", expected="a network")
    network = read_network(config, said)
    ends = (network.in_channels, network.out_channels)
    if ends != (len(metadata.modalities), len(metadata.channels)):
        named = f"{len(metadata.modalities)} and {len(metadata.channels)}"
        raise config.refuse(
            f"its network has {ends[0]} and {ends[1]} channels",
            expected=f"{named}, as metadata.json names",
            remedy="correct either",
        )
    divisor = network.facts().divisor
    if any(side % least for side, least in zip(patch, divisor, strict=True)):
        wanted = f"multiples of {divisor}"
        raise config.refuse(f"roi_size of its inferer is {patch}", expected=wanted)
    return said, network


def _facts(bundle: Bundle, network: str) -> AdoptedFacts:
    return AdoptedFacts(
        framework=FRAMEWORK,
        dataset=bundle.metadata.name,
        configuration=bundle.metadata.version,
        trainer=network,
        checkpoint=bundle.weights.name,
        sha256=bundle.sha256,
    )
