"""The guard at the model's door: says in words what of a scan is unlike what the model has seen.

What is usual is learnt from the training part, from when on a scan is unlike it from the validation
part (`vol3dseg.quality.calibrate`); both stand in the manifest. docs/guard.md tells how well it
works.
"""

from functools import cached_property

import numpy as np

from vol3dseg.quality import guard_words as words
from vol3dseg.quality.appearance import Appearance
from vol3dseg.quality.expected import CHECK_OF, TOGETHER, Check, Comparison, Expected
from vol3dseg.quality.statistics import Key, Usual
from vol3dseg.schema import Frozen


class Number(Frozen):
    """One number that scans are compared by; see `vol3dseg.quality.expected.numbers_of`.

    Attributes
    ----------
    key : tuple of str
        Kind of number, then what it is about.
    usual, spread : float
        Median and robust standard deviation in the training part.
    """

    key: tuple[str, ...]
    usual: float
    spread: float


class Guard(Frozen):
    """What the model's training scans looked like, and from when on a scan is unlike them.

    Attributes
    ----------
    cases : int
        That it was learnt from.
    calibrated_on : int
        Cases that the limits are set by.
    numbers : tuple of Number
    correlations : (n, n) tuple of float
        Between those numbers that tell modalities apart, shrunk; in the order of `numbers`.
    limits : mapping from check to float
        A scan is unlike the training scans where its score is above.
    false_alarms : float
        Share of the cases that the limits were set by which are above one.
    noticed : mapping from mishap to float
        Share of these cases in which the mishap, done to them, is noticed and named.
    """

    cases: int
    calibrated_on: int
    numbers: tuple[Number, ...]
    correlations: tuple[tuple[float, ...], ...]
    limits: dict[Check, float]
    false_alarms: float
    noticed: dict[str, float]

    @cached_property
    def expected(self) -> Expected:
        """What is expected of a scan."""
        known = Usual(
            tuple(number.key for number in self.numbers),
            np.array([number.usual for number in self.numbers]),
            np.array([number.spread for number in self.numbers]),
        )
        size = len(known.only(*TOGETHER).keys)
        return Expected.of(known, np.array(self.correlations, dtype=np.float64).reshape(size, size))

    def warnings(self, appearance: Appearance) -> tuple[str, ...]:
        """Say in words what of a scan is unlike what the model has seen.

        What an exchange of two modalities explains is not said again: the rest is judged as if they
        had been exchanged.

        Parameters
        ----------
        appearance : Appearance
            With the modalities of the model.
        """
        found, compared = [], self.expected.compare(appearance)
        if compared.exchange is not None and self.is_exchanged(compared):
            found.append(words.swapped(compared.exchange, self.limits["together"]))
            appearance = appearance.exchanged(*compared.exchange.names)
            compared = self.expected.compare(appearance)
        if compared.turn.gain > self.limits["turned"]:
            found.append(words.turned(compared.turn))
        far = self._far_out(compared)
        found += [words.unusual(k, compared.numbers[k], self._usual(k)) for k in far]
        rough = any(key[0] == "roughness" for key in far)  # which counts among what follows
        if compared.together > self.limits["together"] and not rough:
            found.append(self._unlike(compared))
        return tuple(found)

    def is_exchanged(self, compared: Comparison) -> bool:
        """Tell whether an exchange makes a scan fit, not merely less unlike."""
        exchange = compared.exchange
        return (
            exchange is not None
            and exchange.before - exchange.after > self.limits["swapped"]
            and exchange.after <= self.limits["together"] ** 2
        )

    def _far_out(self, compared: Comparison) -> list[Key]:
        """Return the numbers beyond their limits; the farthest of each check and name."""
        farthest: dict[tuple[Check, str], Key] = {}
        for key, distance in compared.apart.items():
            check = CHECK_OF.get(key[0])
            if check is None or abs(distance) <= self.limits[check]:
                continue
            before = farthest.get((check, key[1]))
            if before is None or abs(distance) > abs(compared.apart[before]):
                farthest[check, key[1]] = key
        return list(farthest.values())

    def _unlike(self, compared: Comparison) -> str:
        apart = {k: abs(v) for k, v in compared.apart.items() if k[0] in TOGETHER}
        worst = max(apart, key=lambda key: apart[key])
        most = words.unusual(worst, compared.numbers[worst], self._usual(worst))
        return words.unlike(compared.together, self.limits["together"], most)

    def _usual(self, key: Key) -> float:
        usual = self.expected.usual
        return float(usual.location[usual.keys.index(key)])
