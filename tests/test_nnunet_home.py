"""Logits of a model from nnU-Net come home row by row as they do all at once, plainly written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vol3dseg.inference import restore as module
from vol3dseg.inference.deciding import Decision
from vol3dseg.inference.restore import Restorer
from vol3dseg.model.outputs import Softmax
from vol3dseg.preprocessing.prepare import keeps_type, maps_home, prepare
from vol3dseg.recipe import NnunetRecipe
from vol3dseg.space.geometry import Geometry
from vol3dseg.space.labels import Label, LabelSet
from vol3dseg.space.volume import Volume

LOGITS = Softmax(values="logits", classes=("a", "b", "c"))


def recipe_of(spacing_mm, outputs, orientation="stored"):
    return NnunetRecipe.model_validate(
        {
            "kind": "nnunet", "modalities": ["m"], "orientation": orientation,
            "spacing_mm": spacing_mm, "normalisation": {"m": {"method": "none"}},
            "images": {"method": "spline", "order": 1}, "outputs": outputs,
            "patch_size": (8, 8, 8),
        }
    )  # fmt: skip


def matrix_of(size, count, nearest):
    """Return (count, size) weights: linear with edges repeated, or all on the nearest."""
    places = np.clip(float(size) / count * (np.arange(count) + 0.5) - 0.5, 0, size - 1)
    if nearest:
        return np.eye(size)[np.floor(places + 0.5).astype(int)]
    return np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)


def brought_home(logits, crop, nearest):
    """Return (channel, i, j, k) logits on a crop box of some shape."""
    matrices = [
        matrix_of(size, count, axis == nearest)
        for axis, (size, count) in enumerate(zip(logits.shape[1:], crop, strict=True))
    ]
    return np.einsum("cijk,ai,bj,dk->cabd", logits, *matrices)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(4, 16)] * 3),
    source_mm=st.tuples(*[st.sampled_from([0.6, 1.0, 1.3])] * 3),
    target_mm=st.tuples(*[st.sampled_from([0.7, 1.0, 2.0, 5.0])] * 3),
    outputs=st.sampled_from([(1, None), (1, False), (1, True), (0, False)]),
    order=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    orientation=st.sampled_from(["stored", "RAS"]),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**32 - 1),
)
def test_labels_are_those_of_the_whole_at_once(
    labels, shape, source_mm, target_mm, outputs, order, signs, orientation, threads, seed
):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * signs * source_mm
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    image = np.zeros(shape, "f4")
    start = [int(rng.integers(0, n // 3 + 1)) for n in shape]
    stop = [int(rng.integers(2 * n // 3 + 1, n + 1)) for n in shape]
    box = tuple(map(slice, start, stop))
    image[box] = 1
    degree, separate = outputs
    step = {"method": "spline", "order": degree, "separate_z": separate}
    recipe = recipe_of(target_mm, step, orientation)
    scan = Volume(image[..., None], Geometry(shape, affine, source_mm), ("m",))
    turn = list(range(3)) if orientation == "stored" else np.argsort(order).tolist()
    there_mm = [source_mm[axis] for axis in turn]
    crop = [stop[axis] - start[axis] for axis in turn]
    if min(round(n * a / b) for n, a, b in zip(crop, there_mm, target_mm, strict=True)) < 1:
        return
    prepared = prepare(scan, recipe)
    working = prepared.volume.geometry
    logits = rng.normal(size=(3, *working.shape)).astype("f4")

    far = [max(mm) / min(mm) > 3 for mm in (target_mm, there_mm)]
    deciding = target_mm if far[0] or separate else there_mm
    alone = None
    if (any(far) if separate is None else separate) and deciding.count(max(deciding)) == 1:
        alone = deciding.index(max(deciding))
    home = (
        brought_home(logits, crop, alone)
        if degree
        else np.stack([nearest_of(each, crop) for each in logits])
    )
    flips = [slice(None, None, 1 if orientation == "stored" else signs[axis]) for axis in turn]
    values = np.moveaxis(home[(slice(None), *flips)], [1, 2, 3], [axis + 1 for axis in turn])
    nothing = np.array([99, -99, -99])[:, None, None, None]
    expected = np.full((3, *shape), nothing, dtype=float)
    expected[(slice(None), *box)] = values

    for keep in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_CHUNK", 200)
            maps = maps_home(recipe, working, prepared.source)
            rows_along = tuple(rng.permutation(3).tolist())
            turned = logits.transpose(0, *(axis + 1 for axis in rows_along))
            restorer = Restorer(
                working, prepared.source, Decision(LOGITS, labels), keep, threads, rows_along, maps
            )
            first = 0
            while first < turned.shape[1]:
                rows = turned[:, first : first + int(rng.integers(1, 6))].copy()
                first += rows.shape[1]
                restorer.add(rows)
        if keep:
            found = np.moveaxis(restorer.probabilities, -1, 0)
            shares = np.exp(expected) / np.exp(expected).sum(axis=0)
            np.testing.assert_allclose(found, shares, atol=2e-6)
        differing = restorer.labels != expected.argmax(axis=0)
        margin = np.diff(np.sort(expected, axis=0), axis=0)[-1]
        assert not (differing & (margin > 1e-5)).any()


def nearest_of(values, crop):
    """Return the nearest value along all axes."""
    matrices = [
        matrix_of(size, count, True) for size, count in zip(values.shape, crop, strict=True)
    ]
    return np.einsum("ijk,ai,bj,dk->abd", values, *matrices)


@pytest.mark.parametrize("way", ["spline", "torch"])
@pytest.mark.parametrize("spacing", [0.5, 2.0])
def test_what_waits_is_a_few_rows(labels, way, spacing):
    outputs = {"method": way, **({"order": 1} if way == "spline" else {})}
    recipe = recipe_of((spacing, 1.0, 1.0), outputs)
    image = np.ones((60, 8, 8, 1), dtype="f4")
    prepared = prepare(Volume(image, Geometry((60, 8, 8), np.eye(4)), ("m",)), recipe)
    working = prepared.volume.geometry
    maps = maps_home(recipe, working, prepared.source)
    home = Restorer(working, prepared.source, Decision(LOGITS, labels), maps=maps)
    for _ in range(working.shape[0]):
        home.add(np.full((3, 1, 8, 8), [[[[0.0]]], [[[1.0]]], [[[0.5]]]], dtype="f4"))
        assert home._waiting.shape[1] <= 3
    assert (home.labels == 1).all()


@pytest.mark.parametrize(("way", "rounds"), [("spline", True), ("torch", False)])
def test_outputs_are_rounded_on_the_way_as_nnunet_does(labels, way, rounds):
    """Its splines keep float16, where one voxel in a few is equal in two classes."""
    recipe = recipe_of((1.5, 1.5, 1.5), {"method": way, **({"order": 1} if rounds else {})})
    assert keeps_type(recipe) == rounds
    image = np.ones((17, 20, 22, 1), dtype="f4")
    prepared = prepare(Volume(image, Geometry((17, 20, 22), np.eye(4)), ("m",)), recipe)
    working = prepared.volume.geometry
    near = np.random.default_rng(0).normal(20, 0.05, (3, *working.shape)).astype(np.float16)
    maps = maps_home(recipe, working, prepared.source)
    home = Restorer(
        working, prepared.source, Decision(LOGITS, labels), True, maps=maps, rounds=rounds
    )
    home.add(near.astype("f4"))
    exact = brought_home(near.astype(float), (17, 20, 22), None)
    rounded = exact.astype(np.float16)
    expected = (rounded if rounds else exact).argmax(axis=0)
    assert (rounded.argmax(axis=0) != exact.argmax(axis=0)).mean() > 0.02
    assert (home.labels != expected).sum() <= 2


@pytest.mark.parametrize("spread", [0.02, 3.0, 30.0], ids=["near ties", "mixed", "far apart"])
@pytest.mark.parametrize("level", [-20.0, 0.0, 20.0])
def test_channels_that_are_left_out_would_not_have_decided(monkeypatch, spread, level):
    """All 40 interpolated and rounded, against those that may be the largest in each part."""
    names = tuple(f"c{n}" for n in range(40))
    many = LabelSet(classes=[Label(name=name, read=(n,), write=n) for n, name in enumerate(names)])
    recipe = recipe_of((1.5, 1.5, 1.5), {"method": "spline", "order": 1})
    scan = Volume(np.ones((40, 50, 30, 1), "f4"), Geometry((40, 50, 30), np.eye(4)), ("m",))
    prepared = prepare(scan, recipe)
    working, rng = prepared.volume.geometry, np.random.default_rng(0)
    places = [np.arange(n, dtype="f4") for n in working.shape]
    logits = np.empty((40, *working.shape), "f4")
    for channel in logits:  # each largest somewhere, without noise that would hide it elsewhere
        far = [(at - rng.uniform(0, len(at))) ** 2 for at in places]
        channel[:] = -np.sqrt(sum(np.ix_(*far)))
    logits = (level + spread * logits / 10).astype(np.float16).astype("f4")
    maps, found, interpolated = maps_home(recipe, working, prepared.source), [], []
    whole = module.interpolate_rows

    def counting(rows, *more):
        interpolated[-1] += whole(rows, *more).size
        return whole(rows, *more)

    monkeypatch.setattr(module, "interpolate_rows", counting)
    monkeypatch.setattr(module, "_STRIP", 1)
    for few in (8, 40):
        monkeypatch.setattr("vol3dseg.inference.deciding._FEW", few)
        interpolated.append(0)
        decision = Decision(Softmax(values="logits", classes=names), many)
        home = Restorer(working, prepared.source, decision, maps=maps, rounds=True)
        for row in range(working.shape[0]):
            home.add(logits[:, row : row + 1])
        found.append(home.labels)
    # Products of other sizes round halfway numbers otherwise now and then.
    assert (found[0] != found[1]).sum() <= (2 if spread < 1 else 0)
    assert len(np.unique(found[0])) > 20
    assert interpolated[0] < (0.6 if spread == 30 else 1.01) * interpolated[1]


@pytest.mark.parametrize("spacing", [1.0, 1.7, 0.6], ids=["same", "coarser", "finer"])
@pytest.mark.parametrize("orientation", ["stored", "RAS"])
@pytest.mark.parametrize("rows_along", [(0, 1, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("classes", [3, 12])
@pytest.mark.parametrize("keep", [False, True], ids=["labels", "probabilities"])
def test_bands_are_restored_as_the_whole(spacing, orientation, rows_along, classes, keep):
    """Of each band nothing is known beside it and the voxel behind it."""
    names = tuple(f"c{n}" for n in range(classes))
    known = LabelSet(classes=[Label(name=n, read=(v,), write=v) for v, n in enumerate(names)])
    recipe = recipe_of((spacing,) * 3, {"method": "spline", "order": 1}, orientation)
    image = np.zeros((20, 26, 18, 1), "f4")
    image[2:, 1:-3, :-2] = 1
    affine = np.array([[0, -1, 0, 5], [0, 0, -1, 6], [1, 0, 0, 7], [0, 0, 0, 1.0]])
    prepared = prepare(Volume(image, Geometry((20, 26, 18), affine), ("m",)), recipe)
    working = prepared.volume.geometry
    logits = np.random.default_rng(0).normal(size=(classes, *working.shape)).astype("f4")
    turned = logits.transpose(0, *(axis + 1 for axis in rows_along))
    decision = Decision(Softmax(values="logits", classes=names), known)
    homes = [
        Restorer(
            working,
            prepared.source,
            decision,
            keep,
            row_axes=rows_along,
            maps=maps_home(recipe, working, prepared.source),
        )
        for _ in range(2)
    ]
    whole, parts = homes
    whole.add(turned.copy())
    for across in (1, 2):
        parts.labels[:] = 0
        extent = turned.shape[1 + across]
        ends = [0, 1, extent // 2, extent - 1, extent]
        for band in map(range, ends, ends[1:]):
            parts.begin(band, rows_along[across])
            rows = np.full_like(turned, np.nan)
            right = np.s_[..., band.start : band.stop + 1, :][: 4 if across == 1 else 2]
            rows[right] = turned[right]
            for row in range(0, rows.shape[1], 4):
                parts.add(rows[:, row : row + 4])
        assert (parts.labels != whole.labels).sum() <= 1
        assert len(np.unique(parts.labels)) == classes
        if keep:
            np.testing.assert_allclose(parts.probabilities, whole.probabilities, atol=1e-6)
