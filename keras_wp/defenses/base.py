"""What all defenses share: the attack inside a training step, and the passes.

A defense is one method of a subclass of `Defense`:

    training_loss(x, x_adv, y, sample_weight) -> (loss, {pass: logits})

It passes images through the model with `train_pass`, in the order in which
`BatchNormalization` is to see them. Everything else is here.
"""

import abc
import random

import keras
from keras import ops

from keras_wp import _backend, _checks, _first_batch, _noise
from keras_wp.defenses import checks, passes
from keras_wp.defenses.measured import Measured
from keras_wp.defenses.measures import ImageMean, labels_for
from keras_wp.defenses.saving import deserialize_attack, serialize_attack
from keras_wp.engine.problem import Problem
from keras_wp.inputs import Inputs
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.view import View


class Defense(Measured, abc.ABC):
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
    - Labels are integers `(N,)` or `(N, 1)`, or one-hot `(N, K)`. Losses and
      metrics get them so, but those of Keras that compare one form get that.
      Images are floating-point, or integers where the attack's bounds are
      (0, 255). `fit` looks at a first batch of any kind of data before it
      starts. A label out of range in a later batch makes the loss NaN.
    - `save` writes the defense: with the attack, the optimizer and what was
      compiled, and the model inside. `keras.saving.load_model` returns a
      defense that continues as it was. Attacks and `keras_wp.evaluate` take
      the model inside in its place. `export` writes the model inside alone.
    - With `run_eagerly=True` a step costs one forward pass more.

    In training the logs have `loss`; the model's own `penalty`;
    `robust_cross_entropy`, of the attacked images; and a compiled metric
    `m` as `robust_m`. A defense that passes the clean images in training has
    `clean_cross_entropy` and `clean_m`, too. These are of the passes in
    training mode that the loss is made of, running means over the epoch.
    Evaluation has `loss` and `clean_m`: `val_loss` and `val_clean_m` are of
    clean images in inference mode, penalty included.

    Args:
        model: A Keras model that maps images `(N, ...)`, within the attack's
            bounds, to logits `(N, K)`.
        attack: A `keras_wp.attacks.Attack`: untargeted, and one that
            stays within a budget of its own.
        name: Name of the model.
        inputs: A `keras_wp.Inputs`, for images in other units than the
            attack's: their range, mean and standard deviation.

    Raises:
        ValueError: If `model` or `attack` is not as described; in training,
            if labels or images are not.
    """

    def __init__(self, model, attack, name=None, inputs=None):
        checks.check_model(model)
        checks.check_attack(attack)
        # The inner model casts for itself; and its policy says whether the
        # loss is to be scaled.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        self.model = model
        self.inputs = checks.described(inputs)
        if self.inputs is not None and not self.inputs.bounded:
            attack = attack.with_bounds(self.inputs.common_bounds)
        self.attack = attack
        self._view = Classifier(model)
        # A weight, so that it is saved; Keras's own generators are not.
        seed = random.randint(0, 2**31 - 1)
        self._noise = self.add_weight(
            shape=(2,),
            initializer=lambda shape, dtype: ops.cast([seed, 0], dtype),
            dtype="int32",
            trainable=False,
            name="noise",
        )
        self._mean = ImageMean(name="mean")
        # Callbacks that restore weights want to know before the first call.
        self.built = model.built
        # Whether the end of the model could be looked at.
        self._opened = model.built

    @abc.abstractmethod
    def training_loss(self, x, x_adv, y, sample_weight):
        """The loss of a training step, and the logits that metrics measure.

        Args:
            x: The clean images, `(N, ...)` float32.
            x_adv: The same under attack.
            y: Their labels, `(N,)` int32.
            sample_weight: None, or a weight for each image.

        Returns:
            `(loss, logits)`: a scalar; and the logits `(N, K)` float32 of the
            pass of the attacked images, as `logits["robust"]`, and of that of
            the clean ones, if there is one, as `logits["clean"]`.
        """

    @property
    def attack(self):
        """The attack; if set to another in `fit`, from the next step on."""
        return self._attack

    @attack.setter
    def attack(self, attack):
        checks.check_attack(attack)
        self._attack = attack
        if self.train_function is not None:
            self.make_train_function(force=True)

    @property
    def undefended(self):
        """The model inside: what attacks and evaluations are to see."""
        return self.model

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the inner model, as `keras.Model.fit` does.

        Raises:
            ValueError: If the first images are not of the model's shape or
                not within the bounds of the attack, if labels are not classes
                of the model, or if it returns probabilities.
        """
        _first_batch.check_end(x, kwargs.get("steps_per_epoch"))
        x = checks.examined(self, x, y)
        others = kwargs.get("validation_data")
        if isinstance(others, (tuple, list)):
            checks.examined(self, *others[:2])
        elif others is not None:
            kwargs["validation_data"] = checks.examined(self, others)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, return_dict=False, **kwargs):
        """One step of training, as `keras.Model.train_on_batch` does it.

        A list has the loss and what was compiled; a dictionary, all that is
        measured.
        """
        if not self._measures.begun:
            checks.examined(self, x, y)
        logs = super().train_on_batch(x, y, *args, return_dict=True, **kwargs)
        return logs if return_dict else self._measures.listed(logs)

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
        classes = y_pred.shape[-1]
        labels = _checks.batch_labels(y, classes)
        one_hot = _checks.are_one_hot(y, classes)
        if training:
            step = passes.Step(self.loss, one_hot)
            loss, logits = self._defend(x, labels, y_pred, sample_weight, step)
        else:
            targets = labels_for(self.loss, labels, classes, one_hot)
            loss = super().compute_loss(
                x, targets, y_pred, sample_weight, training
            )
            logits = {"clean": y_pred}
        self._measures.update(labels, logits, sample_weight, one_hot)
        return loss

    def train_pass(self, x):
        """Pass images through the model in training mode.

        Layers with a state, such as `BatchNormalization`, move it.

        Returns:
            `(logits, penalty)`: `(N, K)` float32, and the sum of the model's
            own losses, a scalar, to be added to the loss of one pass.
        """
        logits, penalty = passes.train(self.model, x)
        return logits, self.image_mean(penalty)

    def compiled_loss(self, y, logits, sample_weight=None):
        """The compiled loss, with the labels in the form that it takes.

        It is cast as Keras casts losses, whatever type it is computed in.
        """
        step = passes.current(self.loss)
        targets = labels_for(step.loss, y, logits.shape[-1], step.one_hot)
        loss = step.loss(targets, logits, sample_weight)
        return ops.cast(loss, self._mean.dtype)

    def image_mean(self, values, sample_weight=None):
        """The weighted mean over the images, as Keras takes it of losses.

        It is divided by the number of images, not by the sum of the weights;
        and by the number of replicas, whose gradients are summed.
        """
        return self._mean(values, values, sample_weight)

    def export(self, filepath, *args, **kwargs):
        """Exports the inner model, as `keras.Model.export` does."""
        return self.model.export(filepath, *args, **kwargs)

    def get_config(self):
        """The arguments that make an equal one; a subclass adds its own.

        Raises:
            ValueError: If the attack cannot be saved.
        """
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "attack": serialize_attack(self.attack),
            "name": self.name,
            "inputs": self.inputs and self.inputs.config(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The defense with this configuration."""
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects
        )
        given = config.get("inputs")
        parts = {"model": model, "inputs": given and Inputs(**given)}
        if "attack" in config:
            attack = deserialize_attack(config["attack"], custom_objects)
            parts["attack"] = attack
        return cls(**{**config, **parts})

    def _defend(self, x, y, clean_logits, sample_weight, step):
        units = checks.units(self, x.shape[1:])
        bounds = self.attack.bounds if self.inputs is None else (0.0, 255.0)
        x = checks.images(x, bounds)
        view = self._view
        if not units.trivial:
            view = Classifier(self.model, View(units))
        pixels = units.from_data(x)
        classes = clean_logits.shape[-1]
        if self.attack.needs_clean_logits:
            clean_logits = ops.stop_gradient(clean_logits)
        else:
            # Not `zeros_like`: a graph may keep the pass for its shape.
            shape = (ops.shape(x)[0], classes)
            clean_logits = ops.zeros(shape, "float32")
        problem = Problem(
            view,
            x=pixels,
            y=y,
            target=y,
            keys=self._keys(pixels),
            clean_logits=clean_logits,
            bounds=self.attack.bounds,
        )
        # As constants, the weights keep the attack out of the backward pass.
        frozen = passes.frozen(self.model)
        with keras.StatelessScope(frozen), _backend.dividing():
            x_adv = units.tensor(self.attack.perturb(problem))
        with step:
            loss, logits = self.training_loss(x, x_adv, y, sample_weight)
        self._measures.update_training(y, logits, step.penalties)
        if getattr(self.loss, "ignore_class", None) is None:
            # Where nobody can be told, training must not go on unseen.
            known = ops.all((y >= 0) & (y < classes))
            loss = ops.where(known, loss, float("nan"))
        return loss, logits

    def _keys(self, x):
        """Keys for the images that no other step has."""
        seed, step = ops.unstack(ops.convert_to_tensor(self._noise), 2)
        self._noise.assign(ops.stack([seed, step + 1]))
        keys = _noise.fold_in(_noise.image_keys(x), seed)
        return _noise.fold_in(keys, step)
