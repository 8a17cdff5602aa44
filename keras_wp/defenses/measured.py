"""A model with metrics of its own for each pass of a training step."""

import contextlib

import keras

from keras_wp.defenses import checks
from keras_wp.defenses.measures import Measures


class Measured(keras.Model):
    """How a defense is compiled, and what its logs show."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._measures = Measures()
        self._evaluating = False

    @property
    def metrics(self):
        """All metrics; which of them logs show depends on what was passed."""
        return [*super().metrics, *self._measures.trackers]

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *,
        metrics=None,
        weighted_metrics=None,
        **kwargs,
    ):
        """Configures the training.

        Args:
            optimizer: As in `keras.Model.compile`.
            loss: A `keras.losses.Loss` of labels and logits. Defaults to
                `SparseCategoricalCrossentropy(from_logits=True)`.
            metrics: A list of metrics, such as `["accuracy"]`. Each is
                measured on the clean and on the attacked images, as
                `clean_accuracy` and `robust_accuracy`.
            weighted_metrics: Likewise, with the weights of the images.
            **kwargs: The other arguments of `keras.Model.compile`, but
                `loss_weights`.

        Raises:
            ValueError: If `loss` is something else, or a metric cannot be
                made twice.
        """
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        checks.check_loss(loss)
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "A defense has one loss, and takes no `loss_weights`. "
                f"Received: loss_weights={kwargs['loss_weights']!r}"
            )
        self._measures = Measures(metrics, weighted_metrics)
        super().compile(
            optimizer=optimizer, loss=loss, **self._measures.compiled, **kwargs
        )

    def get_compile_config(self):
        """The arguments of `compile`, as they were given."""
        config = super().get_compile_config()
        given = keras.saving.serialize_keras_object(self._measures.given)
        return {**config, **given} if config else config

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says; for loading."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def evaluate(self, *args, **kwargs):
        """The inner model on clean images, as `keras.Model.evaluate` does."""
        with self._in_evaluation():
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """As `evaluate`, of one batch."""
        with self._in_evaluation():
            return super().test_on_batch(*args, **kwargs)

    def test_step(self, *args, **kwargs):
        """As `evaluate`, of one batch, in the graph of an evaluation."""
        with self._in_evaluation():
            return super().test_step(*args, **kwargs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """What `compute_loss` has measured."""
        measured = self._compile_metrics
        if measured is not None and not measured.built:
            # Keras calls this before any loss to have the metrics built.
            measured.build(y, y_pred)
            self._measures.build(y, y_pred)
        return self.get_metrics_result()

    def get_metrics_result(self):
        """The results of the metrics that have been measured."""
        results = super().get_metrics_result()
        return self._measures.shown(results, self._evaluating)

    @contextlib.contextmanager
    def _in_evaluation(self):
        before, self._evaluating = self._evaluating, True
        try:
            yield
        finally:
            self._evaluating = before
