import doctest

import keras
import numpy as np
import pytest
from helpers import linear_model, to_numpy
from keras import ops

from keras_wp import losses, simplex
from keras_wp.layers import MaxMahalanobisHead
from keras_wp.losses import MaxMahalanobisCenter


def logits_and_labels(rng, count=6, classes=4):
    logits = -rng.uniform(0, 200, (count, classes)).astype("float32")
    return logits, rng.integers(0, classes, count)


@pytest.mark.parametrize("column", [False, True])
def test_loss_is_minus_the_logit_of_the_class(rng, column):
    logits, y = logits_and_labels(rng)
    expected = -logits[np.arange(6), y].astype("float64")
    weights = rng.random(6)
    labels = y[:, None] if column else y
    values = MaxMahalanobisCenter(reduction="none")(labels, logits)
    np.testing.assert_allclose(to_numpy(values), expected, rtol=1e-6)
    mean = MaxMahalanobisCenter()(labels, logits, sample_weight=weights)
    np.testing.assert_allclose(
        to_numpy(mean), (weights * expected).mean(), rtol=1e-6
    )


def test_infinite_logits_of_other_classes_do_no_harm():
    logits = np.array([[-1.0, -np.inf]], "float32")
    assert float(MaxMahalanobisCenter()(np.array([0]), logits)) == 1.0


def test_training_draws_features_to_their_centers(rng):
    inputs = keras.Input((5,))
    z = keras.layers.Dense(6)(inputs)
    model = keras.Model(inputs, MaxMahalanobisHead(3)(z))
    model.compile(
        keras.optimizers.Adam(0.1), MaxMahalanobisCenter(), metrics=["accuracy"]
    )
    x, y = rng.standard_normal((8, 5)), np.arange(8) % 3
    features = to_numpy(model.layers[1](x.astype("float32")))
    centers = simplex.vertices(3, 6, 10.0)
    squares = ((features - centers[y]) ** 2).sum(-1)
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(before["loss"], squares.mean(), rtol=1e-5)
    model.fit(x, y, epochs=60, verbose=0)
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"] / 5
    assert after["accuracy"] == 1.0


def test_model_with_head_and_loss_loads_in_safe_mode(tmp_path, rng):
    model = linear_model(rng.normal(size=(2, 2, 1, 3)).astype("float32"))
    model = keras.Model(
        model.inputs, MaxMahalanobisHead(3, scale=2.0)(model.outputs[0])
    )
    model.compile("adam", MaxMahalanobisCenter(name="mmc"))
    x, y = rng.random((4, 2, 2, 1)), np.arange(4) % 3
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.loss, MaxMahalanobisCenter)
    assert loaded.loss.name == "mmc"
    assert loaded.layers[-1].scale == 2.0
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(
        model.evaluate(x, y, verbose=0)
    )
    tensor = ops.convert_to_tensor(x.astype("float32"))
    np.testing.assert_allclose(
        to_numpy(loaded(tensor)), to_numpy(model(tensor)), rtol=1e-6
    )


def test_one_hot_labels_are_refused():
    with pytest.raises(ValueError) as error:
        MaxMahalanobisCenter()(np.eye(3), np.zeros((3, 3), np.float32))
    assert str(error.value) == (
        "Labels must be integers of the shape (N,). Received: shape (3, 3) "
        "(one-hot labels? take their argmax)"
    )


def test_examples_of_the_docstrings():
    results = doctest.testmod(losses, extraglobs={"np": np})
    assert results.attempted > 0
    assert results.failed == 0
