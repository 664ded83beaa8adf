"""What a training is fed: its batches by their number, and TensorFlow's data set of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vol3dseg.config import Config
from vol3dseg.preprocessing.store import StoredCase
from vol3dseg.training.augment import augmented
from vol3dseg.training.backend import tf
from vol3dseg.training.growing import patches_of, stages_of
from vol3dseg.training.missing_modalities import MissingModalities, without
from vol3dseg.training.sampling import (
    Batch,
    CaseReader,
    Draw,
    Patch,
    PatchSampler,
    read_ahead,
    stacked,
)


class TrainingFeed:
    """The batches of a training, by their number; `steps` of them make an epoch.

    A batch here is what goes through the network at once: a micro-batch. It is a function of the
    config and its number, so nothing of it need be kept. Where several workers share it, each makes
    its own part alone: those of all, one after the other, are the batch.
    """

    def __init__(
        self,
        config: Config,
        cases: Sequence[StoredCase],
        steps: int,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        training = config.training
        self._stages, self._steps = stages_of(config), steps
        self._reader = CaseReader(cases, training.cache_mb)
        index = {name: number for number, name in enumerate(config.labels.names)}
        self._sampler = PatchSampler(
            self._reader,
            config.recipe.patch_size,
            training.foreground,
            training.seed,
            {index[name]: weight for name, weight in training.foreground_weights.items()},
            training.foreground_by == "voxels",
        )
        self._worker, self._workers = worker, workers
        self._augment = training.augment
        self._missing = MissingModalities(config.model_recipe.modalities, training.modality_dropout)

    def draws(self, number: int) -> list[Draw]:
        """Return where the patches of a batch are, those of all workers."""
        return self._draw(number, 0, 1)

    def batch(self, number: int) -> Batch:
        """Return (n, i, j, k, c) float32 images and (n, i, j, k) uint8 labels of this worker."""
        draws = self._draw(number, self._worker, self._workers)
        return stacked([self._patch(draw) for draw in draws])

    def _draw(self, number: int, part: int, parts: int) -> list[Draw]:
        size, numbers = patches_of(self._stages, self._steps, number)
        each = len(numbers) // parts
        own = numbers[part * each : (part + 1) * each]
        return [self._sampler.draw(patch, size) for patch in own]

    def _patch(self, draw: Draw) -> Patch:
        if self._augment is None:
            image, label = self._reader.patch(draw)
        else:
            image, label = augmented(self._reader, draw, self._augment)
        gone = self._missing.drawn(self._reader.cases[draw.case].missing, draw.rng)
        return without(image, gone), label


def dataset(
    batch: Callable[[int], Batch], numbers: Any, config: Config, patches: int | None = None
) -> Any:
    """Return a `tf.data.Dataset` of batches; it starts anew from `numbers` when iterated again.

    `patches` are those of each batch, where all have as many: layers are quicker if they know.
    """
    channels = len(config.model_recipe.modalities)
    grows = config.training.grow_patch is not None
    size = (None, None, None) if grows else config.recipe.patch_size
    patches = None if grows else patches
    signature = (
        tf.TensorSpec((patches, *size, channels), tf.float32),
        tf.TensorSpec((patches, *size), tf.uint8),
    )

    def stream() -> Iterator[Batch]:
        return read_ahead(batch, iter(numbers), config.training.workers)

    return untuned(tf.data.Dataset.from_generator(stream, output_signature=signature).prefetch(1))


def untuned(dataset: Any) -> Any:
    """Return a `tf.data.Dataset` without the thread that tunes it; nothing here is left to tune.

    That thread sleeps up to a minute at a time, and an iterator that dies waits for its end: the
    wake-up call is lost where it looks whether it is cancelled before that is noted.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
