"""What is unlike the training scans, in words."""

import numpy as np

from vol3dseg.quality.appearance import AXES
from vol3dseg.quality.expected import Exchange, Turn
from vol3dseg.quality.statistics import Key


def swapped(exchange: Exchange, limit: float) -> str:
    """Return what is said of two modalities that look swapped."""
    first, second = exchange.names
    before, after = np.sqrt(exchange.before), np.sqrt(exchange.after)
    return (
        f"{first} and {second} look swapped: exchanged they fit what the model was trained on "
        f"(distance {before:.1f} as they are, {after:.1f} exchanged, usual is up to {limit:.1f}); "
        "check which file is which"
    )


def turned(turn: Turn) -> str:
    """Return what is said of a scan whose axes seem to run otherwise than its header says."""
    if turn.order == (0, 1, 2):
        mirrored = [name for name, m in zip(AXES, turn.mirrored, strict=True) if m]
        how = f"mirrored {' and '.join(mirrored)}"
    else:
        letters = ("RL", "AP", "SI")
        axes = [letters[axis][m] for axis, m in zip(turn.order, turn.mirrored, strict=True)]
        how = f"turned, its {', '.join(axes)} running where R, A, S should"
    return (
        f"the scan looks {how}: it fits what the model was trained on better that way round; "
        "check the orientation in its header"
    )


def unlike(distance: float, limit: float, most: str) -> str:
    """Return what is said of modalities that are unlike the training scans for no known cause."""
    return (
        "the images are unlike what the model was trained on "
        f"(distance {distance:.1f}, usual is up to {limit:.1f}); most of all {most}"
    )


def unusual(key: Key, value: float, usual: float) -> str:
    """Return what is said of one number.

    Parameters
    ----------
    key : Key
        Of `vol3dseg.quality.expected.numbers_of`.
    value, usual : float
        On its scale: of the scan, and the median of the training scans.
    """
    kind, name = key[0], key[1]
    high = value > usual
    if kind == "scale":
        return (
            f"intensities of {name} span {np.exp(value):.4g} from the 1st to the 99th percentile, "
            f"usual is {np.exp(usual):.4g}; are they in other units?"
        )
    if kind == "level":
        return (
            f"intensities of {name} are shifted: the median is {value:.2f} of their span, usual is "
            f"{usual:.2f}; are they in other units?"
        )
    if kind == "inside":
        ask = "was skull-stripping or masking left out?" if high else "was too much masked?"
        return f"{value:.0%} of {name} is not background, usual is {usual:.0%}; {ask}"
    if kind == "roughness":
        ask = "is there noise?" if high else "was it resampled or filtered?"
        return (
            f"{name} is unusually {'rough' if high else 'smooth'}: neighbours differ by "
            f"{np.exp(value):.2f} of its standard deviation, usual is {np.exp(usual):.2f}; {ask}"
        )
    if kind == "spacing":
        return f"voxels are {np.exp(value):.3g} mm apart {name}, usual is {np.exp(usual):.3g} mm"
    if kind == "size":
        return f"the scan is {np.exp(value):.4g} mm long {name}, usual is {np.exp(usual):.4g} mm"
    if kind == "shape":
        return f"the {key[2]} of {name} lies at {value:.2f} of its range, usual is {usual:.2f}"
    of = "edges" if kind == "slopes" else "intensities"
    return (
        f"the {of} of {name} and {key[2]} correlate by {np.tanh(value):.2f}, usual is "
        f"{np.tanh(usual):.2f}"
    )
