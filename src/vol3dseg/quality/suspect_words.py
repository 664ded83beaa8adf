"""Numbers that are far out, in words."""

import numpy as np

from vol3dseg.quality.facts import MASK
from vol3dseg.quality.outliers import ALL_CLASSES
from vol3dseg.quality.statistics import Key


def in_words(key: Key, value: float, median: float) -> str:
    """Return the reason for suspicion: what is unusual, its value and that of the other cases.

    Parameters
    ----------
    key : Key
        Of `outliers.features`.
    value, median : float
        On the scale of `outliers.features`.
    """
    kind, name = key[0], key[1]
    high = value > median
    if kind == "noise":
        return (
            f"{name} is much noisier than in other cases ({value:.2f} vs. median "
            f"{median:.3f} of the image's standard deviation)"
        )
    if kind == "contrast":
        side = "bright" if high else "dark"
        return f"{name} is unusually {side} in {key[2]} ({value:+.1f} vs. median {median:+.1f})"
    if kind == "correlation":
        return (
            f"{name} and {key[2]} are unusually {'much' if high else 'little'} alike (correlation "
            f"{np.tanh(value):.2f} vs. median {np.tanh(median):.2f})"
        )
    if kind == "skew":
        side = "high" if high else "low"
        return (
            f"the median of {name} lies unusually {side} in its range ({value:.2f} vs. "
            f"{median:.2f})"
        )
    what = {
        "scale": f"the range of intensities of {name} is unusually {'wide' if high else 'narrow'}",
        "volume": f"{MASK if name == ALL_CLASSES else name} is unusually "
        f"{'large' if high else 'small'}",
        "spacing": f"the spacing along {name} is unusually {'wide' if high else 'fine'}",
        "size": f"the scan is unusually {'long' if high else 'short'} along {name}",
    }[kind]
    unit = {"scale": "", "volume": " ml", "spacing": " mm", "size": " mm"}[kind]
    return f"{what} ({np.exp(value):.4g}{unit} vs. median {np.exp(median):.4g}{unit})"
