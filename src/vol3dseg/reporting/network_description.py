"""What a model says of its network: what it is, where its weights come from, what was proven."""

from collections.abc import Mapping, Sequence
from typing import Any

from vol3dseg.model.adopted import AdoptedFacts, Proof
from vol3dseg.model.manifest import Manifest
from vol3dseg.model.tiling_rule import Tiling
from vol3dseg.model.training_facts import TrainingFacts
from vol3dseg.reporting.document import UNDEFINED, Table, number
from vol3dseg.reporting.wording import facts_table, times, worded


def network_facts(manifest: Manifest) -> dict[str, str]:
    """Return what the network is, and how well it does, in words."""
    outputs, tiling, network = manifest.outputs, manifest.tiling, manifest.network
    found = {
        "network": _architecture(network.architecture),
        "input": f"{', '.join(manifest.recipe.modalities)}; sides are multiples of "
        f"{times(network.divisor)}",
        "output": f"{outputs.kind} of {', '.join(outputs.channels)}",
        "tiles": "of any size"
        if network.local
        else f"{times(manifest.recipe.patch_size)} voxels, {_apart(tiling)}",
        "mirrored views": _views(tiling),
    }
    if (scores := manifest.validation) is not None:
        mean = "undefined" if scores.mean_dice is None else number(scores.mean_dice)
        said = f"mean Dice {mean} on {scores.cases} whole scans"
        found["validation"] = ", ".join([said, *scores.notes])
    if (int8 := manifest.quantisation) is not None:
        found[int8.precision] = (
            f"Dice {int8.dice_drop:.4f} below float32 on {int8.cases} scans, "
            f"{int8.label_agreement:.4%} of voxels alike"
        )
    if (parity := manifest.parity) is not None:
        found["equals Keras"] = (
            f"up to {parity.max_abs_difference:.1e} in probability on {parity.patches} patches, "
            f"{parity.label_agreement:.4%} of voxels alike"
        )
    adopted = next((f for f in manifest.members if isinstance(f, AdoptedFacts)), None)
    if adopted is not None:
        names = filter(None, (adopted.dataset, adopted.configuration, adopted.plans))
        found["trained by"] = f"{adopted.framework}: {', '.join(names)}"
        found["agreement"] = manifest.proof.in_words if manifest.proof else "never compared"
        found["training scans"] = f"stored as {axes}" if (axes := manifest.training_axes) else ""
    if trained := manifest.trained:
        found["learned from"] = "data of fingerprint " + ", ".join(
            dict.fromkeys(facts.data_fingerprint[:12] for facts in trained)
        )
    made = manifest.provenance
    by = f"vol3dseg {made.versions.get('vol3dseg', 'of unknown version')}"
    return {**found, "made": f"{made.created} by {by}", "fingerprint": manifest.fingerprint[:12]}


def _apart(tiling: Tiling) -> str:
    most = "at most " if tiling.spread is not None else ""
    several = f"; {tiling.members_apart} networks, averaged once each is blended"
    return f"{most}{times(tiling.step)} apart" + several * (tiling.members_apart > 1)


def _views(tiling: Tiling) -> str:
    """Return which mirrored views are averaged; empty where none can be."""
    ways = [("unless --no-mirror", tiling.mirror), ("with --mirror", tiling.mirrorable)]
    return next((f"along {', '.join(axes)}, {how}" for how, axes in ways if axes), "")


def _architecture(known: Mapping[str, Any]) -> str:
    """Return what a network is in a line; of levels that are listed, their features."""
    plain = {name: value for name, value in known.items() if name != "stages"}
    if isinstance(levels := known.get("stages"), list | tuple):
        features = [level.get("features") for level in levels if isinstance(level, Mapping)]
        plain["features"] = features
    return worded(plain)


def member_table(manifest: Manifest) -> Table:
    """Return where the weights of each network come from."""
    adopted = [facts for facts in manifest.members if isinstance(facts, AdoptedFacts)]
    return _adopted_table(adopted) if adopted else _trained_table(manifest.trained)


def _adopted_table(members: Sequence[AdoptedFacts]) -> Table:
    rows = tuple(
        (f.trainer, f.fold, f.checkpoint, "" if f.epoch is None else str(f.epoch), f.sha256[:12])
        for f in members
    )
    return Table(("trainer", "fold", "checkpoint", "epoch", "SHA-256"), rows, text_columns=3)


def proof_table(proof: Proof) -> Table:
    """Return how far the labels agree with those of the framework it was trained by."""
    ways = {"run": "its own predictor, run for it", "label maps": "label maps it had written"}
    dice = (f"{n} {UNDEFINED if v is None else format(v, '.6f')}" for n, v in proof.dice.items())
    facts = {
        "compared with": ways[proof.against],
        "labels": proof.in_words,
        "Dice between the two": ", ".join(dice),
        "mirrored views": ", ".join(proof.mirror) or "none",
        "ran on": proof.provider,
        "versions": ", ".join(f"{name} {version}" for name, version in proof.versions.items()),
    }
    return facts_table(facts)


def _trained_table(members: Sequence[TrainingFacts]) -> Table:
    """Return where the weights of each network come from."""
    rows = [
        (
            f"{facts.checkpoint_in_words}, {facts.epoch} of {facts.epochs}",
            ", ".join(f"{count} {part}" for part, count in facts.cases.items()),
            f"{facts.loss}, {facts.optimizer}, batch {facts.batch_size}, seed {facts.seed}"
            + (f", from {facts.parent.name}" if facts.parent else ""),
            UNDEFINED if facts.val_loss is None else number(facts.val_loss),
            UNDEFINED if facts.val_volume_dice is None else number(facts.val_volume_dice),
        )
        for facts in members
    ]
    columns = ("checkpoint, epoch", "cases", "how", "val_loss", "val_volume_dice")
    # The measure that few trainings have is left out where none has it.
    shown = 4 + any(facts.val_volume_dice is not None for facts in members)
    return Table(columns[:shown], tuple(row[:shown] for row in rows), text_columns=3)
