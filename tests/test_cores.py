from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from vol3dseg.machine import limit_cores, usable_cores


@pytest.mark.parametrize(("most", "found"), [(1, 1), (0, 1), (10_000, usable_cores())])
def test_a_limit_is_of_the_process_that_sets_it(most, found):
    with ProcessPoolExecutor(1, get_context("spawn"), limit_cores, (most,)) as pool:
        assert pool.submit(usable_cores).result() == found
