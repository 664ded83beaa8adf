"""How long a training takes: what its steps have taken so far, and the rest of its epochs."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# A step computes the network forwards once and backwards for about twice as long; judging a patch
# takes the first of the three.
_FORWARD = 1 / 3
_ENOUGH = 3  # steps before anything is said
_ENOUGH_S = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a training that is done, for whoever shows it.

    Attributes
    ----------
    epoch, epochs : int
        Which epoch it is of, from 1, and how many there are.
    part : "train" or "validation"
        Whether the network learned, or was judged by patches of the validation cases.
    number, steps : int
        Which step of this part of the epoch it is, from 1, and how many there are. Micro-batches
        are steps of their own.
    loss : float
        Mean over the steps of this part so far.
    left_s : float or None
        Of the whole training, as far as it is known yet [s].
    """

    epoch: int
    epochs: int
    part: Literal["train", "validation"]
    number: int
    steps: int
    loss: float
    left_s: float | None


class Timing:
    """Tells from the moments [s] at which steps and epochs ended how much is left.

    The first step of all is not counted: TensorFlow builds its graph in it.

    Parameters
    ----------
    epochs, first : int
        How many epochs there are, and how many of them were done before.
    steps : int
        Of an epoch.
    judged : float
        How many steps' worth of whole patches are judged after an epoch; it stands for all that
        comes after its steps until one epoch has ended.
    every : int
        After how many epochs comes what does not come after each: the mean over so many counts.
    shares : sequence of float
        Of the time of a step of whole patches that one of each epoch takes; empty for all 1.
    """

    def __init__(
        self,
        epochs: int,
        first: int,
        steps: int,
        judged: float,
        every: int = 1,
        shares: Sequence[float] = (),
    ) -> None:
        self._shares = [*shares] or [1.0] * epochs
        self._done = first
        self._steps, self._left_in_epoch = steps, steps
        self._judged = judged
        # Of the latest steps, as if they were of whole patches.
        self._seconds: deque[float] = deque(maxlen=max(steps, _ENOUGH))
        self._last: float | None = None
        self._rests: deque[float] = deque(maxlen=every)  # what came after the steps of epochs [s]

    @property
    def step_s(self) -> float | None:
        """What a step of whole patches takes [s]; None as long as too few were seen."""
        known = len(self._seconds)
        if not known or (not self._rests and known < _ENOUGH):
            return None
        return sum(self._seconds) / known

    @property
    def settled(self) -> bool:
        """Whether enough was measured to say something of hours."""
        return self.step_s is not None and sum(self._seconds) >= _ENOUGH_S

    @property
    def left_s(self) -> float | None:
        """What is left of the training [s]; None as long as too few steps were seen."""
        step_s = self.step_s
        if step_s is None:
            return None
        rest_s = self._judged * _FORWARD * step_s
        if self._rests:
            rest_s = sum(self._rests) / len(self._rests)
        left = self._shares[self._done :]
        steps = self._left_in_epoch * sum(left[:1]) + self._steps * sum(left[1:])
        return steps * step_s + len(left) * rest_s

    def step_ended(self, now: float) -> None:
        """Count a step; the moment that the one before, or the epoch before, ended is known."""
        if self._last is not None:
            self._seconds.append((now - self._last) / self._shares[self._done])
        self._last = now
        self._left_in_epoch -= 1

    def epoch_ended(self, now: float) -> None:
        """Count an epoch, with all that came after its steps."""
        self._rests.append(now - (self._last if self._last is not None else now))
        self._last = now
        self._done += 1
        self._left_in_epoch = self._steps


def duration(seconds: float) -> str:
    """Return a time in words, as exactly as an estimate is: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 99.5:
        return f"{max(1, seconds):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    return f"{hours} h" + f" {minutes} min" * bool(minutes)
