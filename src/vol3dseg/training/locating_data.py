"""The prepared cases of a folder, made coarse: what a network learns from that finds where to look.

Whole scans on a grid on which their longest side has some hundred voxels, with one class: whatever
is labelled. Where nobody has looked for some class in a case, that class may be anywhere in it, so
such cases are left out.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vol3dseg.config import AugmentConfig, Config, ModelConfig, TrainingConfig
from vol3dseg.errors import StoreError
from vol3dseg.model.locating import LABELS
from vol3dseg.preprocessing.index import CASES, CaseEntry, Index
from vol3dseg.preprocessing.prepare import Prepared
from vol3dseg.preprocessing.store import StoredCase, open_cases, write_case
from vol3dseg.recipe import Recipe
from vol3dseg.space.axes import axis_maps
from vol3dseg.space.box import Box, Shape
from vol3dseg.space.geometry import Geometry, Spacing
from vol3dseg.space.labels import Segmentation, is_labelled
from vol3dseg.space.resampling import resample, resample_along
from vol3dseg.space.volume import Volume
from vol3dseg.written import sha256_file

LONGEST = 96  # voxels of the longest side of a scan
_COARSER = 2.0  # times the spacing that the scans have, at least
_DEPTH, _WIDTH = 3, 8
_TOUCHED = 0.1  # share of a coarse voxel that is labelled, from which on it is
_STEPS, _EPOCHS = 25, 20


def coarse_spacing(cases: Mapping[str, StoredCase]) -> Spacing:
    """Return the spacing of the coarse grid, along R, A, S [mm].

    The longest side of all scans has `LONGEST` voxels, but none is finer than twice that of the
    scans.
    """
    grids = [case.grid for case in cases.values()]
    sides = [n * mm for g in grids for n, mm in zip(g.shape, g.spacing_mm, strict=True)]
    isotropic = max(sides) / LONGEST
    finest = [min(g.spacing_mm) for g in grids]
    wanted = max(isotropic, _COARSER * min(finest))
    coarsest = np.max([g.spacing_mm for g in grids], axis=0).tolist()
    i, j, k = (round(max(wanted, own), 4) for own in coarsest)
    return i, j, k


def write_coarse(
    prepared: Path, index: Index, config: Config, folder: Path, progress: Callable[[str], None]
) -> Config:
    """Write coarse cases into `folder`, and return the config to train on them with."""
    known = [e for e in index.cases if e.class_voxels is not None and not e.unannotated]
    if not known:
        raise StoreError(
            "has no case in which all classes were looked for",
            where=prepared,
            expected="at least one: what was not looked for may be anywhere",
            remedy="annotate some cases in full",
        )
    modalities = config.model_recipe.modalities
    cases = open_cases(prepared, index, [entry.id for entry in known], modalities)
    spacing = coarse_spacing(cases)
    recipe = config.model_recipe.model_copy(
        update={"spacing_mm": spacing, "interpolation": "linear"}
    )
    shapes = np.array([case.geometry.with_spacing(spacing).shape for case in cases.values()])
    step = 2**_DEPTH
    i, j, k = (step * math.ceil(n / step) for n in shapes.max(axis=0).tolist())
    recipe = recipe.model_copy(update={"patch_size": (i, j, k)})
    made = _config(config, recipe)
    entries = []
    for number, entry in enumerate(known, start=1):
        case = cases[entry.id]
        entries.append(_written(case, entry, made, case.geometry.with_spacing(spacing), folder))
        if number % 50 == 0 or number == len(known):
            progress(f"coarse cases {number}/{len(known)}")
    Index(config=made, fingerprint=recipe.fingerprint, cases=tuple(entries)).save(folder)
    mm = " x ".join(f"{side:g}" for side in spacing)
    progress(f"whole scans in {i} x {j} x {k} voxels of {mm} mm, {len(known)} cases")
    return made


def _config(config: Config, recipe: Recipe) -> Config:
    """Return how the coarse network is trained; seeds, threads and the like are the config's."""
    training, augment = config.training, config.training.augment
    return Config.model_validate(
        {
            "labels": LABELS.model_dump(mode="json"),
            "recipe": recipe.model_dump(mode="json"),
            "split": config.split.model_dump(mode="json"),
            "model": ModelConfig(depth=_DEPTH, width=_WIDTH).model_dump(mode="json"),
            "training": TrainingConfig(
                epochs=_EPOCHS,
                steps_per_epoch=_STEPS,
                batch_size=2,
                foreground=0.0,  # a patch is the whole scan
                optimizer="adamw",
                learning_rate=2e-3,
                schedule="cosine",
                warmup_epochs=1.0,
                clip_norm=1.0,
                ema=0.99,
                model_checkpoint=False,
                modality_dropout=training.modality_dropout,
                augment=AugmentConfig(
                    flip_axes=augment.flip_axes if augment else (),
                    rotation=0.5,
                    rotate_degrees=15,
                    scaling=0.5,
                    scale=(0.85, 1.2),
                ),
                seed=training.seed,
                deterministic=training.deterministic,
                workers=training.workers,
                cache_mb=training.cache_mb,
                precision=training.precision,
            ).model_dump(mode="json"),
        }
    )


def _written(
    case: StoredCase, entry: CaseEntry, config: Config, grid: Geometry, folder: Path
) -> CaseEntry:
    """Write one coarse case, and return its entry."""
    fine, whole = case.prepared(), Box.whole(grid.shape)
    source = fine.volume.geometry
    maps = axis_maps(source, grid)
    names = fine.volume.modalities
    array = np.zeros((len(names), *grid.shape), np.float32)
    for channel, name in enumerate(names):
        if name in case.boxes:
            resample_along(fine.volume.array[..., channel], maps, out=array[channel])
    mask = is_labelled(case.read_label(Box.whole(case.shape))).astype(np.float32)
    touched = (resample(mask, source, grid) > _TOUCHED).astype(np.uint8)
    label = Segmentation(touched, grid, LABELS)
    boxes = dict.fromkeys(case.boxes, whole)
    volume = Volume(np.moveaxis(array, 0, -1), grid, names)
    prepared = Prepared(volume, grid, grid, whole, boxes, case.appearance)
    file = f"{CASES}/{entry.id}.h5"
    path = folder / file
    contents = write_case(path, entry.id, config.recipe, prepared, (label, label))
    shape: Shape = grid.shape
    facts = {
        "file": file,
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "contents": contents,
        "shape": shape,
        "source_shape": shape,
        "source_spacing_mm": grid.spacing_mm,
        "class_voxels": dict(zip(LABELS.names, label.counts(), strict=True)),
        "missing": tuple(name for name in names if name not in case.boxes),
        "labels_outside": 0,
        "labels_changed": 0,
        "appearance": case.appearance,
    }
    return entry.model_copy(update=facts)
