import gc
import weakref

import keras
import numpy as np
import pytest
from helpers import (
    CenterHead,
    linear_model,
    random_images,
    randomize,
    tiny_cnn,
    to_numpy,
)
from keras import ops

from keras_wp.inspection import features
from keras_wp.layers import RobustHead


def test_a_robust_head_is_cut_behind_its_activation():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(7),
            RobustHead(3),
        ]
    )
    randomize(model)
    x = random_images(4)
    halves = features.cut(model)
    values = to_numpy(halves.features(x))
    dense = model.layers[1]
    expected = np.tanh(to_numpy(dense(x.reshape(4, -1))))
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(
        to_numpy(halves.classify(values)), to_numpy(model(x)), atol=1e-6
    )


def test_both_halves_make_the_model_in_inference():
    model, x = tiny_cnn(dropout=0.5), random_images(4)
    halves = features.cut(model)
    logits = to_numpy(halves.classify(halves.features(x)))
    expected = to_numpy(model(x, training=False))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_features_are_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    halves = features.cut(tiny_cnn())
    values = halves.features(random_images(2))
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    logits = halves.classify(values)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_given_centers_are_returned_as_they_are():
    centers = np.arange(6.0).reshape(3, 2)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, CenterHead(centers)(inputs))
    values, given = features.cut(model).centers()
    np.testing.assert_array_equal(to_numpy(values), centers)
    assert given


def test_class_weights_stand_for_centers_as_directions(rng):
    kernel = rng.normal(size=(8, 3)).astype(np.float32)
    model = linear_model(kernel)
    values, given = features.cut(model).centers()
    expected = kernel.T - kernel.T.mean(0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(to_numpy(values), expected, atol=1e-6)
    assert not given


def test_class_weights_are_read_afresh(rng):
    model = linear_model(rng.normal(size=(8, 3)).astype(np.float32))
    halves = features.cut(model)
    before = to_numpy(halves.centers()[0])
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel[:, ::-1], bias])
    after = to_numpy(halves.centers()[0])
    np.testing.assert_allclose(after, before[::-1], atol=1e-6)


def test_a_cut_does_not_keep_the_model():
    model = tiny_cnn()
    reference, halves = weakref.ref(model), features.cut(model)
    del model
    gc.collect()
    assert reference() is None
    assert halves.head.units == 5


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_unit_rows_have_length_one_at_any_scale(rng, scale):
    vectors = (scale * rng.normal(size=(4, 5))).astype(np.float32)
    rows = to_numpy(features.unit(ops.convert_to_tensor(vectors)))
    length = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(length, float(scale > 0), atol=1e-6)


def test_class_means_are_those_of_the_features(rng):
    model, x = linear_model(rng.normal(size=(4, 3))), rng.uniform(size=(9, 4))
    y = np.arange(9) % 3
    means = features.class_means(model, x, y, batch_size=2)
    expected = [x[y == k].mean(0) for k in range(3)]
    np.testing.assert_allclose(means, expected, atol=1e-6)


def test_class_means_need_an_image_of_every_class(rng):
    model, x = linear_model(rng.normal(size=(4, 3))), rng.uniform(size=(2, 4))
    with pytest.raises(ValueError) as error:
        features.class_means(model, x, np.array([1, 1]))
    assert str(error.value) == (
        "Every class needs an image. Received: none of the classes [0, 2]"
    )


def test_other_models_have_no_features():
    with pytest.raises(ValueError) as error:
        features.cut(lambda x: x)
    assert str(error.value) == (
        "Features are known for models that can be opened only. Received: a "
        "model of type function (<lambda>: it does not say which one image it "
        "takes)"
    )


def test_a_model_must_end_in_a_layer_on_features():
    layers = [keras.Input((4, 4, 1)), keras.layers.GlobalMaxPooling2D()]
    with pytest.raises(ValueError) as error:
        features.cut(keras.Sequential([*layers]))
    assert str(error.value) == (
        "The model must end in a layer with class weights, which maps features "
        "(N, P) to logits. Received: 'global_max_pooling2d' of type "
        "GlobalMaxPooling2D"
    )


def test_a_last_layer_without_weights_has_no_centers(rng):
    inputs = keras.Input((3,))
    scaled = keras.layers.Rescaling(2.0, name="rescaling")(inputs)
    with pytest.raises(ValueError) as error:
        features.cut(keras.Model(inputs, scaled))
    assert str(error.value) == (
        "The model must end in a layer with class weights, which maps features "
        "(N, P) to logits. Received: 'rescaling' of type Rescaling"
    )
