"""What changes the weights: Keras' optimizers, by the names that a config has for them."""

from collections.abc import Sequence
from typing import Any

from vol3dseg.config import TrainingConfig
from vol3dseg.training.backend import keras
from vol3dseg.training.learning_rate import learning_rate_of


def make_optimizer(training: TrainingConfig, steps_per_epoch: int, variables: Sequence[Any]) -> Any:
    """Return the optimizer of a config, which is to change `variables`.

    It adds up the gradients of as many micro-batches as make a batch, clips their mean, and leaves
    what has one axis out of weight decay: that pulls to 0, which is no prior for biases and for
    scales and shifts of norms. A saved optimizer forgets that, so it is always made here.
    """
    rate = learning_rate_of(training, steps_per_epoch)
    options = {
        "global_clipnorm": training.clip_norm,
        # Keras takes 2 or more; one micro-batch is a batch.
        "gradient_accumulation_steps": (
            training.micro_batches if training.micro_batches > 1 else None
        ),
    }
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate, **options)
    options["weight_decay"] = training.weight_decay
    if training.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, **options)
    elif training.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, training.momentum, nesterov=True, **options)
    else:
        optimizer = ScheduleFreeAdamW(rate, **options)
    optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
    return optimizer


@keras.saving.register_keras_serializable(package="vol3dseg")
class ScheduleFreeAdamW(keras.optimizers.ScheduleFreeAdamW):  # type: ignore[misc]
    """Keras' schedule-free AdamW with the steps of its authors.

    Defazio et al., "The road less scheduled", 2024, algorithm 1: steps are made from z, weights to
    deploy are the mean x of all z, each weighted by its rate squared, and gradients are taken at
    y = (1 - b) z + b x, which the model holds; z decays by y. Keras 3.15 finds x again from y and a
    z that TensorFlow has changed already, lets y decay without z, so that x is pulled to 0 in every
    step, and weighs the steps of a warm-up like all others.
    """

    def build(self, var_list: Sequence[Any]) -> None:
        """Make the state: z, the mean squares of gradients, the sum of squared rates."""
        if self.built:
            return
        super().build(var_list)
        self._squared_rates = self.add_variable((), name="squared_rates", dtype="float32")

    def averaged(self) -> list[Any]:
        """Return x of each variable that is trained."""
        pairs = zip(self._trainable_variables, self._momentums, strict=True)
        return [self._average(y, z) for y, z in pairs]

    def _average(self, y: Any, z: Any) -> Any:
        return (y - (1 - self.beta_1) * z) / self.beta_1

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Leave decay to the step, which takes it off z."""

    def _backend_update_step(self, grads: Any, trainable_variables: Any, rate: Any) -> None:
        self._squared_rates.assign_add(keras.ops.square(rate))
        super()._backend_update_step(grads, trainable_variables, rate)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change z, then x and with it y, of one variable."""
        place = self._get_variable_index(variable)
        z, square = self._momentums[place], self._velocities[place]
        x = self._average(variable, z)
        square.assign_add((1 - self.beta_2) * (keras.ops.square(gradient) - square))
        changes = keras.ops.cast(self.iterations + 1, "float32")
        unbiased = square / (1 - keras.ops.power(self.beta_2, changes))
        step = gradient / (keras.ops.sqrt(unbiased) + self.epsilon)
        if self._use_weight_decay(variable):
            step = step + self.weight_decay * variable
        z.assign_sub(learning_rate * step)
        share = keras.ops.square(learning_rate) / self._squared_rates
        x = (1 - share) * x + share * z
        variable.assign((1 - self.beta_1) * z + self.beta_1 * x)
