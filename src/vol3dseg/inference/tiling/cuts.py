"""How one axis of a volume is cut into tiles of one size that carry a halo."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """One way to cut an axis: `count` tiles of `size` voxels, halo included."""

    count: int
    size: int

    @property
    def computed(self) -> int:
        """Voxels of all tiles together, along this axis."""
        return self.count * self.size

    def step(self, halo: int) -> int:
        """Return how far tiles lie apart [voxels]; their size where there is one."""
        return self.size if self.count == 1 else self.size - 2 * halo


def cuts_of(extent: int, divisor: int, halo: int) -> list[Cut]:
    """Return every way to cut an axis that makes sense, from one tile on.

    All tiles have one size, for which runtimes make their code once. At the ends of the axis a tile
    needs no halo, so there it keeps that much more.
    """
    cuts, inner = [Cut(1, extent)], extent - 2 * halo
    for count in range(2, max(inner, 0) // divisor + 1):
        size = multiple_of(-(-inner // count), divisor) + 2 * halo
        if size < cuts[-1].size:
            cuts.append(Cut(-(-inner // (size - 2 * halo)), size))
    return cuts


def places_on(extent: int, size: int, halo: int, kept: int) -> list[tuple[range, range]]:
    """Return what each tile of an axis reads, and what it keeps of the first `kept` voxels."""
    step = size - 2 * halo
    count = 1 if size == extent else -(-(extent - 2 * halo) // step)
    starts = [min(n * step, extent - size) for n in range(count)]
    edges = [0, *(start + size - halo for start in starts[:-1]), kept]
    return [
        (range(start, start + size), range(min(low, kept), min(high, kept)))
        for start, low, high in zip(starts, edges, edges[1:], strict=False)
    ]


def multiple_of(extent: int, divisor: int) -> int:
    """Return the least multiple of `divisor` that is no less than `extent`."""
    return divisor * -(-extent // divisor)
