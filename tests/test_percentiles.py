import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vol3dseg.recipe.percentiles import percentiles

numbers = st.floats(
    width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100
)
few = st.sampled_from([0.0, -0.0, 1.0, -3.5, 2.0**-100])  # many equal values


@given(arrays(np.float32, st.integers(1, 60), elements=numbers | few), st.data())
def test_percentiles_are_those_of_numpy(values, data):
    percents = sorted(data.draw(st.tuples(*[st.floats(0, 100)] * 2)))
    cut = data.draw(st.integers(0, values.size))
    found = percentiles(lambda: iter([values[:cut], values[cut:]]), percents)
    np.testing.assert_array_equal(found, np.percentile(values, percents))


@pytest.mark.parametrize("percents", [(0, 100), (0.5, 99.5), (50, 50)])
def test_percentiles_of_an_image_are_those_of_numpy(percents):
    values = np.random.default_rng(0).normal(50, 900, 200_000).astype(np.float32).round()
    found = percentiles(lambda: np.split(values, 100), percents)
    np.testing.assert_array_equal(found, np.percentile(values, percents))


def test_percentiles_of_no_values_are_zero():
    assert percentiles(lambda: iter(()), (1, 99)).tolist() == [0, 0]
