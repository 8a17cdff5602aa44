"""The metrics of a defense: of clean and of attacked images, never mixed.

Each compiled metric exists twice, as `clean_<name>` and as `robust_<name>`.
What else a training step knows, the penalty and the cross-entropies, has
metrics of its own.
"""

import keras
from keras import ops

from keras_wp import _checks, losses, metrics, objectives

PASSES = ("clean", "robust")
# They compare one-hot labels, whatever was given.
_OF_ONE_HOT = (
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.CategoricalHinge,
    keras.losses.KLDivergence,
    keras.losses.MeanSquaredError,
    keras.metrics.BinaryCrossentropy,
    keras.metrics.CategoricalAccuracy,
    keras.metrics.CategoricalCrossentropy,
    keras.metrics.CategoricalHinge,
    keras.metrics.KLDivergence,
    keras.metrics.MeanSquaredError,
    keras.metrics.TopKCategoricalAccuracy,
)
# They compare the numbers of classes, whatever was given.
_OF_NUMBERS = (
    keras.losses.CategoricalGeneralizedCrossEntropy,
    keras.losses.SparseCategoricalCrossentropy,
    keras.metrics.SparseCategoricalAccuracy,
    keras.metrics.SparseCategoricalCrossentropy,
    keras.metrics.SparseTopKCategoricalAccuracy,
    losses.CertifiedMargin,
    losses.HypersphereMargin,
    losses.MaxMahalanobisCenter,
    metrics.CertifiedAccuracy,
)
_FUNCTIONS_OF_NUMBERS = (
    keras.losses.sparse_categorical_crossentropy,
    keras.metrics.sparse_categorical_accuracy,
    keras.metrics.sparse_top_k_categorical_accuracy,
)


def labels_for(consumer, y, num_classes, one_hot):
    """Labels in the form that a loss or a metric compares, or as given.

    Args:
        consumer: The loss or the metric.
        y: Labels, `(N,)` int32.
        num_classes: Number of classes.
        one_hot: Whether they were given as one-hot ones. All but the kinds
            that are known to want one form take them so.
    """
    function = getattr(consumer, "_fn", None)
    if isinstance(consumer, _OF_ONE_HOT):
        one_hot = True
    elif isinstance(consumer, _OF_NUMBERS) or function in _FUNCTIONS_OF_NUMBERS:
        one_hot = False
    elif hasattr(consumer, "sparse_y_true"):  # Intersections over unions.
        one_hot = not consumer.sparse_y_true
    return ops.one_hot(y, num_classes) if one_hot else y


class Measures:
    """The metrics of one compilation.

    Args:
        metrics: As in `keras.Model.compile`, but a list or None.
        weighted_metrics: Likewise.

    Attributes:
        given: `metrics` and `weighted_metrics` as they were given, by name.
        compiled: What to compile in their place, by name.
        trackers: The metrics beside them, of training alone.

    Raises:
        ValueError: If they are not lists of metrics that can be made twice.
    """

    def __init__(self, metrics=None, weighted_metrics=None):
        self.given = {"metrics": metrics, "weighted_metrics": weighted_metrics}
        # (pass, metric, whether it sees the weights of the images)
        self._entries = []
        self.compiled = {}
        for argument, kinds in self.given.items():
            if kinds is not None and not isinstance(kinds, (list, tuple)):
                raise ValueError(
                    f"Argument `{argument}` of a defense must be a list. "
                    f"Received: {argument}={kinds!r}"
                )
            found = [
                (name, _twin(kind, f"{name}_"), argument != "metrics")
                for kind in kinds or ()
                for name in PASSES
            ]
            self._entries += found
            self.compiled[argument] = [entry[1] for entry in found] or None
        self._penalty = keras.metrics.Mean(name="penalty")
        self._cross_entropy = {
            name: keras.metrics.Mean(name=f"{name}_cross_entropy")
            for name in PASSES
        }
        self.trackers = [self._penalty, *self._cross_entropy.values()]
        # What a training step measures is known once it has been traced.
        self._measured = ()

    @property
    def begun(self):
        """Whether a training step has been traced."""
        return bool(self._measured)

    def build(self, y, logits):
        """Have metrics make what they make when they are first updated.

        What is not measured, as attacked images in evaluation, has a result.
        """
        classes = logits.shape[-1]
        labels = _checks.batch_labels(y, classes)
        one_hot = _checks.are_one_hot(y, classes)
        with keras.StatelessScope():
            self.update(labels, dict.fromkeys(PASSES, logits), None, one_hot)

    def update(self, y, logits, sample_weight, one_hot):
        """Measure what a pass has made of the images.

        Args:
            y: Labels, `(N,)` int32.
            logits: By the name of the pass, logits `(N, K)`.
            sample_weight: None, or a weight for each image.
            one_hot: Whether labels were given as one-hot ones.
        """
        for name, metric, weighted in self._entries:
            if name in logits:
                values = logits[name]
                metric.update_state(
                    labels_for(metric, y, values.shape[-1], one_hot),
                    values,
                    sample_weight=sample_weight if weighted else None,
                )

    def update_training(self, y, logits, penalties):
        """What is measured in training alone; see `update`."""
        self._measured = tuple(logits)
        if penalties:
            self._penalty.update_state(
                penalties[0], sample_weight=ops.shape(y)[:1]
            )
        for name, values in logits.items():
            losses = objectives.cross_entropy(values, y)
            self._cross_entropy[name].update_state(losses)

    def shown(self, results, evaluating):
        """The results of metrics that have been measured, by name."""
        measured = ("clean",) if evaluating else self._measured
        hidden = {
            metric.name
            for name, metric, _ in self._entries
            if name not in measured
        }
        hidden |= {
            metric.name
            for name, metric in self._cross_entropy.items()
            if evaluating or name not in measured
        }
        hidden |= {self._penalty.name} if evaluating else set()
        return {k: v for k, v in results.items() if k not in hidden}

    def listed(self, logs):
        """Logs as a list without the trackers; of one value, that value."""
        names = ["loss", *(metric.name for _, metric, _ in self._entries)]
        values = [logs[name] for name in names if name in logs]
        return values[0] if len(values) == 1 else values


def _twin(kind, prefix):
    """A metric of its own of the kind given, under a name with the prefix."""
    if str(kind).lower() in ("accuracy", "acc"):
        return keras.metrics.SparseCategoricalAccuracy(name=f"{prefix}{kind}")
    name = kind if isinstance(kind, str) else None
    kind = keras.metrics.get(kind)
    try:
        if not isinstance(kind, keras.metrics.Metric):
            name = name or kind.__name__
            return keras.metrics.MeanMetricWrapper(kind, name=prefix + name)
        config = {**kind.get_config(), "name": prefix + (name or kind.name)}
        return type(kind).from_config(config)
    except Exception as error:  # Whatever somebody's metric raises.
        raise ValueError(
            "A defense measures each metric on the clean and on the attacked "
            "images, and must be able to make it twice, by `from_config` of "
            f"its `get_config`. Received: {kind!r}"
        ) from error


class ImageMean(keras.losses.Loss):
    """The mean of what is passed for predictions."""

    def call(self, y_true, y_pred):
        del y_true
        return y_pred
