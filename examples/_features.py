"""What the last layer of a trained network sees, in two dimensions."""

import _quiet  # noqa: F401  (before Keras)
import keras
import numpy as np
from absl import flags
from sklearn.manifold import TSNE

import keras_wp as kwp
from keras_wp import features

FLAGS = flags.FLAGS
BATCH = 500


def embed(run, count):
    """t-SNE of the test images' features.

    Args:
        run: A finished `_runs.Experiment`.
        count: How many test images, at most.

    Returns:
        `{"points": [[x, y], ...], "labels": [...]}`.
    """
    settings = run.read("settings.json")
    _, (x, y) = kwp.datasets.load(settings["dataset"], FLAGS.data_dir)
    x, y = x[:count], y[:count]
    model = keras.models.load_model(run.folder / "model.keras", compile=False)
    half = features.cut(model)
    values = np.concatenate(
        [
            keras.ops.convert_to_numpy(half.features(x[i : i + BATCH]))
            for i in range(0, len(x), BATCH)
        ]
    )
    points = TSNE(
        perplexity=min(30, (len(x) - 1) / 3),
        init="pca",
        random_state=settings["seed"],
    ).fit_transform(values)
    return {
        "points": np.round(points.astype(float), 3).tolist(),
        "labels": y.tolist(),
    }
