"""What the last layer of a trained network sees."""

import functools

import keras
import numpy as np
from sklearn.manifold import TSNE

import keras_wp as kwp
from keras_wp.experiments import heads  # noqa: F401  (in `model.keras`)
from keras_wp.inspection import features
from keras_wp.inspection.classifier import Classifier

_BATCH = 500
_data = functools.cache(kwp.datasets.load)


def embed(run, count):
    """t-SNE of the features of a finished run's first test images."""
    model, x, y = _load(run, count)
    values = _in_batches(features.cut(model).features, x)
    points = TSNE(
        perplexity=min(30, (len(x) - 1) / 3),
        init="pca",
        random_state=run.read("settings.json")["seed"],
    ).fit_transform(values)
    points = np.round(points.astype(float), 3)
    return {"points": points.tolist(), "labels": y.tolist()}


def saturation(run, count):
    """How far the Tanh before the class weights is saturated.

    The share of units that are exactly -1 or 1, the share beyond 0.999, and the
    median absolute pre-activation; each None if there is no such Tanh.
    """
    model, x, _ = _load(run, count)
    opened = Classifier(model).open(x)
    last = opened.last
    if last is None or not last.name.startswith("tanh"):
        return dict.fromkeys(("saturated", "nearly_saturated", "median_size"))
    before, after = (abs(_in_batches(f, x)) for f in opened.around(last))
    return {
        "saturated": float((after == 1).mean()),
        "nearly_saturated": float((after > 0.999).mean()),
        "median_size": float(np.median(before)),
    }


def _load(run, count):
    """A run's model, its first test images and their labels."""
    _, (x, y) = _data(run.read("settings.json")["dataset"], run.study.data_dir)
    model = keras.models.load_model(run.folder / "model.keras", compile=False)
    return model, x[:count], y[:count]


def _in_batches(function, x):
    parts = [function(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    return np.concatenate([*map(keras.ops.convert_to_numpy, parts)])
