"""Every score against what others compute of the same masks."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("SimpleITK")

from scipy import stats

from tests.oracle import local
from tests.oracle.foreign import asked
from tests.oracle.masks import EMPTY, PAIRS
from tests.oracle.missing import MISSED, SHOWN, statistics
from tests.oracle.ours import Ours
from tests.oracle.page import PAGE, page
from tests.oracle.rows import EMPTY_ROWS, FOREIGN, LOCAL
from vol3dseg.evaluation.intervals import _drawn_means, mean_interval
from vol3dseg.evaluation.surfel_areas import surfel_areas

pytestmark = pytest.mark.oracle
elsewhere = pytest.mark.elsewhere


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """What the oracles in their own environment say."""
    return asked(tmp_path_factory.mktemp("oracles"))


def ids(rows):
    return [f"{row.name}, {'explained' if row.differs else 'same'}" for row in rows]


def compare(row, answer):
    """Hold a row against an oracle's answers over all pairs that it is about."""
    compared, parts = 0, False
    for name, pair in PAIRS.items():
        ours = Ours(pair)
        if not row.on(ours):
            continue
        theirs = answer(name)
        assert theirs is not None, name
        expected = pytest.approx(theirs, rel=1e-6, abs=row.rounding, nan_ok=True)
        assert row.equal(ours) == expected, name
        parts |= row.plainly is not None and row.plainly(ours) != pytest.approx(theirs, rel=1e-3)
        compared += 1
    assert compared >= 30
    assert parts == bool(row.differs), "an explanation without a difference"


@pytest.mark.parametrize("row", LOCAL, ids=ids(LOCAL))
def test_an_oracle_here(row):
    compare(row, lambda name: float(local.asked(row.oracle, name)[row.theirs]()))


@elsewhere
@pytest.mark.parametrize("row", FOREIGN, ids=ids(FOREIGN))
def test_an_oracle_elsewhere(row, foreign):
    compare(row, lambda name: foreign["pairs"][name][row.oracle][row.theirs])


@elsewhere
@pytest.mark.parametrize("row", EMPTY_ROWS, ids=lambda row: f"{row.oracle}: {row.theirs}")
def test_what_others_say_of_empty_masks(row, foreign):
    said = [foreign["pairs"][name][row.oracle].get(row.theirs) for name in EMPTY]
    assert said == pytest.approx([row.neither, row.missed, row.invented], nan_ok=True)


@elsewhere
def test_areas_of_all_ways_between_eight_voxels_are_those_of_surface_distance(foreign):
    for spacing_mm, theirs in foreign["tables"].items():
        mm = tuple(float(word) for word in spacing_mm.strip("()").split(","))
        np.testing.assert_allclose(surfel_areas(mm), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scans", [1, 3], ids=["a scan each", "three scans each, some undefined"])
def test_intervals_are_those_of_scipy_for_the_same_draws(scans):
    rng = np.random.default_rng(4)
    table = rng.beta(6, 2, (40, scans))
    table[rng.random(table.shape) < (0.3 if scans > 1 else 0)] = np.nan
    subjects = [f"{n:02}" for n in np.repeat(np.arange(40), scans)]
    sums, counts = np.nansum(table, axis=1), (~np.isnan(table)).sum(axis=1).astype(float)
    drawn = _drawn_means(sums[:, None], counts[:, None], np.random.default_rng(0))[:, 0]
    theirs = stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=drawn),
        method="BCa",
    ).confidence_interval
    found = mean_interval(table.ravel(), subjects)
    assert found == pytest.approx((theirs.low, theirs.high), rel=1e-6)


def test_the_page_has_these_tables():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run: make oracle"


def test_what_is_missed_raises_no_mean_but_by_rules_that_leave_it_out():
    means = {
        rule: [statistics(rule, missed, "hd95_mm").mean for missed in MISSED] for rule in SHOWN
    }
    assert sorted(means["undefined"], reverse=True) == means["undefined"]
    assert all(sorted(means[rule]) == means[rule] for rule in ("brats-2023", "diagonal"))
