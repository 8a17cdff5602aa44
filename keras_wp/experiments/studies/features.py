"""What the last layer of a trained network sees."""

import functools

import keras
import numpy as np
from sklearn.manifold import TSNE

import keras_wp as kwp
from keras_wp.experiments import head_layers  # noqa: F401  (in `model.keras`)
from keras_wp.inspection import features
from keras_wp.inspection.classifier import Classifier

BATCH = 500


def embed(run, count):
    """t-SNE of the test images' features.

    Args:
        run: A finished `queue.Experiment`.
        count: How many test images, at most.

    Returns:
        `{"points": [[x, y], ...], "labels": [...]}`.
    """
    settings, model, (x, y) = _load(run, count)
    values = _in_batches(features.cut(model).features, x)
    points = TSNE(
        perplexity=min(30, (len(x) - 1) / 3),
        init="pca",
        random_state=settings["seed"],
    ).fit_transform(values)
    return {
        "points": np.round(points.astype(float), 3).tolist(),
        "labels": y.tolist(),
    }


def saturation(run, count):
    """How far the Tanh before the class weights is saturated.

    Args:
        run: A finished `queue.Experiment`.
        count: How many test images, at most.

    Returns:
        `{"saturated", "nearly_saturated", "median_size"}`: the share of units
        that are exactly -1 or 1, the share beyond 0.999, and the median
        absolute pre-activation; each None if there is no such Tanh.
    """
    _, model, (x, _) = _load(run, count)
    opened = Classifier(model).open(x)
    last = opened.last
    if last is None or not last.name.startswith("tanh"):
        return dict.fromkeys(("saturated", "nearly_saturated", "median_size"))
    before, after = (_in_batches(f, x) for f in opened.around(last))
    size = np.abs(after)
    return {
        "saturated": float((size == 1).mean()),
        "nearly_saturated": float((size > 0.999).mean()),
        "median_size": float(np.median(np.abs(before))),
    }


def _load(run, count):
    """A run's settings, its model, and its first test images."""
    settings = run.read("settings.json")
    _, (x, y) = _data(settings["dataset"], run.study.data_dir)
    model = keras.models.load_model(run.folder / "model.keras", compile=False)
    return settings, model, (x[:count], y[:count])


@functools.cache
def _data(name, data_dir):
    return kwp.datasets.load(name, data_dir)


def _in_batches(function, x):
    parts = [
        keras.ops.convert_to_numpy(function(x[i : i + BATCH]))
        for i in range(0, len(x), BATCH)
    ]
    return np.concatenate(parts)
