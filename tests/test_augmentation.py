import keras
import numpy as np
import pytest
from helpers import places, to_numpy
from keras import ops

from keras_wp.augmentation import CropAndFlip

# Wider than twice the padding, so that a flip cannot be taken for a crop.
SHAPE = (7, 10, 2)


def distinct_pixels(count, shape=SHAPE):
    size = count * int(np.prod(shape))
    return np.arange(size, dtype="float32").reshape(count, *shape)


def augment(layer, images):
    return to_numpy(layer(ops.convert_to_tensor(images), training=True))


@pytest.mark.parametrize("padding", [1, 3, 4])
def test_images_are_parts_of_the_padded_ones(padding):
    images = distinct_pixels(40)
    augmented = augment(CropAndFlip(padding, seed=0), images)
    assert augmented.shape == images.shape
    found = places(images, augmented, padding)
    # Every image has a place of its own.
    assert len(np.unique(found, axis=0)) > 10


def test_places_and_flips_are_uniform():
    images = distinct_pixels(5000, (3, 4, 1))
    found = places(images, augment(CropAndFlip(1, seed=0), images), 1)
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 18
    statistic = ((counts - 5000 / 18) ** 2 / (5000 / 18)).sum()
    # Chi-square with 17 degrees of freedom exceeds this once in 1000.
    assert statistic < 40.8


def test_without_flip_and_padding_images_stay():
    images = distinct_pixels(3)
    same = augment(CropAndFlip(0, flip=False, seed=0), images)
    np.testing.assert_array_equal(same, images)


def test_inference_leaves_images_alone():
    images = distinct_pixels(3)
    layer = CropAndFlip(seed=0)
    np.testing.assert_array_equal(to_numpy(layer(images)), images)
    predicted = keras.Sequential([keras.Input(SHAPE), layer]).predict(
        images, verbose=0
    )
    np.testing.assert_array_equal(predicted, images)


def test_seed_decides_and_calls_differ():
    images = distinct_pixels(20)
    layer = CropAndFlip(seed=3)
    first, second = augment(layer, images), augment(layer, images)
    assert not np.array_equal(first, second)
    again = augment(CropAndFlip(seed=3), images)
    np.testing.assert_array_equal(first, again)
    other = augment(CropAndFlip(seed=4), images)
    assert not np.array_equal(first, other)


def test_config_makes_an_equal_layer():
    layer = CropAndFlip(2, flip=False, seed=5, name="augmentation")
    again = CropAndFlip.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    images = distinct_pixels(6)
    np.testing.assert_array_equal(
        augment(layer, images), augment(again, images)
    )


def test_model_with_it_trains_and_loads_in_safe_mode(tmp_path, rng):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            CropAndFlip(2, seed=0),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    x = rng.random((10, 8, 8, 1), dtype="float32")
    model.fit(x, np.arange(10) % 3, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(model(x)))


@pytest.mark.parametrize("padding", [-1, 1.5, None])
def test_invalid_padding_is_refused(padding):
    with pytest.raises(ValueError) as error:
        CropAndFlip(padding)
    assert str(error.value) == (
        f"`padding` must be an integer of at least 0. Received: {padding=}"
    )


def test_images_not_larger_than_the_padding_are_refused():
    with pytest.raises(ValueError, match="larger than the padding of 4") as e:
        augment(CropAndFlip(4, seed=0), distinct_pixels(2, (9, 4, 1)))
    assert "Received: images of shape (9, 4, 1)" in str(e.value)
