"""What all defenses share: the attack inside a training step, and the passes.

A defense is one method of a subclass of `Defense`:

    training_loss(x, x_adv, y, sample_weight) -> (loss, logits)

It passes images through the model with `train_pass`, in the order in which
`BatchNormalization` is to see them. Everything else is here.
"""

import abc
import random

import keras
import numpy as np
from keras import ops

from keras_wp import _backend, _checks, _noise
from keras_wp.defenses import checks
from keras_wp.engine.problem import Problem
from keras_wp.inspection.classifier import Classifier

# How many images `fit` looks at before it starts.
_EXAMINED = 1000


class Defense(keras.Model, abc.ABC):
    """The base of all defenses: a model to train in place of another.

    Compile and fit it like any model; what learns is `model`, the model
    inside. A training step attacks the images, in the step's own graph, and
    trains on what comes out. Everywhere else a defense is its inner model in
    inference mode: `predict`, `evaluate` and `validation_data` show what that
    makes of the images as they are.

    - The attack sees the model in inference mode, always.
    - The attack's random numbers depend on the image and on the step. They
      are the same again after `keras.utils.set_random_seed`, and on any
      number of replicas; the attack's `seed` has no part in them.
    - Regularizers and other losses of the inner model are counted once.
    - `save` and `export` write the inner model alone. `save_weights` and
      `load_weights` are of both, with the optimizer, for a training that is
      to be taken up again.
    - With `run_eagerly=True` a step costs one forward pass more.

    Args:
        model: A Keras model that maps images `(N, ...)`, floating-point and
            within the attack's bounds, to logits `(N, K)`.
        attack: A `keras_wp.attacks.Attack`: untargeted, and one that
            stays within a budget of its own.
        name: Name of the model.

    Raises:
        ValueError: If `model` or `attack` is not as described; in training,
            if labels are not integers `(N,)` or images not floating-point.
    """

    def __init__(self, model, attack, name=None):
        if not isinstance(model, keras.Model) or isinstance(model, Defense):
            raise ValueError(
                "Argument `model` must be a Keras model, and no defense. "
                f"Received: {type(model).__name__}"
            )
        checks.check_logits(model)
        checks.check_attack(attack)
        # The inner model casts for itself; and its policy says whether the
        # loss is to be scaled.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        self.model = model
        self.attack = attack
        self._view = Classifier(model)
        # A weight, so that it is saved with the others, as the state of
        # Keras's own generators is not.
        seed = random.randint(0, 2**31 - 1)
        self._noise = self.add_weight(
            shape=(2,),
            initializer=lambda shape, dtype: ops.cast([seed, 0], dtype),
            dtype="int32",
            trainable=False,
            name="noise",
        )
        self._mean = _Mean(name="mean")
        # Callbacks that restore weights want to know before the first call.
        self.built = model.built

    @abc.abstractmethod
    def training_loss(self, x, x_adv, y, sample_weight):
        """The loss of a training step, and the logits that metrics measure.

        Args:
            x: The clean images, `(N, ...)` float32.
            x_adv: The same under attack.
            y: Their labels, `(N,)` int32.
            sample_weight: None, or a weight for each image.

        Returns:
            `(loss, logits)`: a scalar, and `(N, K)` float32.
        """

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        """Configures the training.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: A `keras.losses.Loss` of integer labels and logits. Defaults
                to `SparseCategoricalCrossentropy(from_logits=True)`.
            **kwargs: The other arguments of `keras.Model.compile`, but
                `loss_weights`.

        Raises:
            ValueError: If `loss` is something else.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        checks.check_loss(loss)
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "A defense has one loss, and takes no `loss_weights`. "
                f"Received: loss_weights={kwargs['loss_weights']!r}"
            )
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the inner model, as `keras.Model.fit` does.

        Raises:
            ValueError: If `x` is an array of images that are not of the
                model's shape, or the first of which are not within the bounds
                of the attack; or if `y` is an array of labels that are not
                classes of the model.
        """
        if isinstance(x, np.ndarray):
            _checks.images(x[:_EXAMINED], self.attack.bounds)
            _checks.image_shape(self.model, x.shape[1:])
        classes = _checks.num_classes(self.model)
        ignored = getattr(self.loss, "ignore_class", None)
        whole = isinstance(y, np.ndarray) and y.dtype != bool
        if whole and classes and ignored is None:
            _checks.labels(y, len(y), classes)
        return super().fit(x, y, *args, **kwargs)

    def call(self, inputs):
        """The inner model's logits in inference mode, in training too.

        In a training step nobody asks for them, unless the attack does, and
        they drop out of the compiled graph.
        """
        return self._view(inputs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The defense's loss in training, the clean one in evaluation.

        Metrics are updated here too: on JAX the logits of a training step
        exist nowhere else.
        """
        labels = _checks.batch_labels(y)
        if training:
            loss, logits = self._defend(x, labels, y_pred, sample_weight)
        else:
            loss, logits = (
                super().compute_loss(x, y, y_pred, sample_weight, training),
                y_pred,
            )
        super().compute_metrics(x, y, logits, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """What `compute_loss` has measured."""
        if all(getattr(metric, "built", True) for metric in self.metrics):
            return self.get_metrics_result()
        # Keras calls this before any loss to have the metrics built.
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def train_pass(self, x):
        """Pass images through the model in training mode.

        Layers with a state, such as `BatchNormalization`, move it.

        Returns:
            `(logits, penalty)`: `(N, K)` float32, and the sum of the model's
            own losses, a scalar, to be added to the loss of one pass.
        """
        before = _values(self.model)
        with keras.StatelessScope(before, collect_losses=True) as scope:
            logits = self.model(x, training=True)
            losses = self.model.losses
        for variable, value in before:
            after = scope.get_current_value(variable)
            if after is not value:
                variable.assign(after)
        penalty = sum(ops.sum(ops.cast(loss, "float32")) for loss in losses)
        penalty = ops.reshape(ops.cast(penalty, "float32"), (1,))
        return ops.cast(logits, "float32"), self.image_mean(penalty)

    def image_mean(self, values, sample_weight=None):
        """The weighted mean over the images, as Keras takes it of losses.

        It is divided by the number of images, not by the sum of the weights;
        and by the number of replicas, whose gradients are summed.
        """
        return self._mean(values, values, sample_weight)

    def save(self, filepath, *args, **kwargs):
        """Saves the inner model, as `keras.Model.save` does."""
        return self.model.save(filepath, *args, **kwargs)

    def export(self, filepath, *args, **kwargs):
        """Exports the inner model, as `keras.Model.export` does."""
        return self.model.export(filepath, *args, **kwargs)

    def get_config(self):
        """Refuses: the inner model is what can be saved."""
        raise ValueError(
            "A defense has no configuration of its own: save its inner model, "
            "by `defense.save(path)` or `defense.model.save(path)`, and wrap "
            "that after loading. Received: a call of `get_config` of "
            f"{type(self).__name__}"
        )

    def _defend(self, x, y, clean_logits, sample_weight):
        x = checks.images(x)
        if self.attack.needs_clean_logits:
            clean_logits = ops.stop_gradient(clean_logits)
        else:
            # Not `zeros_like`: a graph may keep the pass for its shape.
            shape = (ops.shape(x)[0], clean_logits.shape[-1])
            clean_logits = ops.zeros(shape, "float32")
        problem = Problem(
            self._view,
            x=x,
            y=y,
            target=y,
            keys=self._keys(x),
            clean_logits=clean_logits,
            bounds=self.attack.bounds,
        )
        # Nothing is learned through the attack: as constants, the weights
        # keep its steps out of the backward pass.
        frozen = [(v, ops.stop_gradient(t)) for v, t in _values(self.model)]
        with keras.StatelessScope(frozen), _backend.dividing():
            x_adv = self.attack.perturb(problem)
        return self.training_loss(x, x_adv, y, sample_weight)

    def _keys(self, x):
        """Keys for the images that no other step has."""
        seed, step = ops.unstack(ops.convert_to_tensor(self._noise), 2)
        self._noise.assign(ops.stack([seed, step + 1]))
        keys = _noise.fold_in(_noise.image_keys(x), seed)
        return _noise.fold_in(keys, step)


class _Mean(keras.losses.Loss):
    """The mean of what is passed for predictions."""

    def call(self, y_true, y_pred):
        del y_true
        return y_pred


def _values(model):
    """The model's variables, each with its value as a tensor."""
    return [(v, ops.convert_to_tensor(v)) for v in model.variables]
