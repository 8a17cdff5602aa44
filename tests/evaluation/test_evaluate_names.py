"""Names, budgets and data of an evaluation."""

import functools

import keras
import numpy as np
import pytest
from evaluated import FGSM, Batches
from helpers import linear_model, random_images, tiny_cnn
from helpers import plainly as evaluate

import keras_wp as kwp

pytestmark = pytest.mark.once


def test_names_are_told_apart(model, data):
    second = kwp.attacks.FGSM(eps=0.01, name="FGSM (2)")
    report = evaluate(model, data, [FGSM, FGSM, second])
    names = [result.name for result in report.results]
    assert names == ["FGSM", "FGSM (2)", "FGSM (2) (2)"]


def test_targeted_attack_aims_at_the_likeliest_wrong_class(rng):
    kernel = rng.normal(size=(4, 4, 1, 3)).astype("float32")
    model = linear_model(kernel)
    x = random_images(50, (4, 4, 1))
    y = model.predict(x, verbose=0).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.5, steps=50, targeted=True, seed=1)
    report = evaluate(model, (x, y), [attack])
    assert report.robust_accuracy == 0.0


def test_a_budget_beyond_the_pixels_meets_a_warning(model, data):
    with pytest.warns(UserWarning) as found:
        evaluate(model, data, [FGSM], eps=[0.1, 8])
    told = [str(w.message) for w in found if w.category is UserWarning]
    assert told == [
        "A budget in linf of 8 is larger than half of the range of the "
        "pixels, (0.0, 1.0): is it in other units?"
    ]


BAD_DATA = {
    "soft labels": (
        lambda x, y: (x, 0.9 * np.eye(5)[y] + 0.02),
        "Labels must be integers of the shape (60,). Received: shape (60, 5) "
        "(probabilities? take their argmax)",
    ),
    "label out of range": (
        lambda x, y: (x, y + 1),
        "Labels must lie in [0, 5), as the model has 5 classes. Received: "
        "labels from 1 to 5",
    ),
    "pixels up to 255": (
        lambda x, y: (np.float32(x > 0.5) * 255, y),
        "Images must lie within the bounds (0.0, 1.0). Received: values from "
        "0 to 255 (up to 255? then inputs=keras_wp.Inputs(bounds=(0, 255)))",
    ),
    "bits": (
        lambda x, y: (np.uint8(x > 0.5), y),
        "Images of whole numbers need their range: give `inputs=keras_wp."
        "Inputs(bounds=(lowest, highest))`. Received: dtype uint8 with values "
        "from 0 to 1",
    ),
    "nan": (
        lambda x, y: (np.where(x > 0.99, np.nan, x), y),
        "Images must be finite. Received: NaN or infinity in 16 of 60 images",
    ),
    "other shape": (
        lambda x, y: (np.repeat(x, 2, axis=1), y),
        "The model takes images of the shape (6, 6, 1). Received: images of "
        "the shape (12, 6, 1)",
    ),
    "one image": (
        lambda x, y: (x[0], y[0]),
        "`data` must be (x, y) arrays of many images and labels. Received: x "
        "of the shape (6, 6, 1) and y of the shape ()",
    ),
    "lengths": (
        lambda x, y: (x, y[:-1]),
        "`data` must have as many labels as images. Received: 60 images and "
        "59 labels",
    ),
    "generator": (
        lambda x, y: iter([(x, y)]),
        "`data` must be readable more than once, as each attack reads it. "
        "Received: a one-time list_iterator",
    ),
    "number": (
        lambda x, y: 3,
        "`data` must be (x, y) arrays or a dataset of (x, y) batches. "
        "Received: int",
    ),
    "images only": (
        lambda x, y: [x, x, x],
        "`data` must consist of (x, y) pairs. Received: an item of type "
        "ndarray",
    ),
    "nothing": (
        lambda x, y: Batches(x[:0], y[:0], 5),
        "`data` must hold at least one image. Received: none",
    ),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_gets_one_sentence(model, data, kind):
    spoil, message = BAD_DATA[kind]
    with pytest.raises(ValueError) as error:
        evaluate(model, spoil(*data), [FGSM])
    assert str(error.value) == message


BAD_ARGUMENTS = {
    "no attacks": (
        {"attacks": []},
        "`attacks` must name at least one. Received: none",
    ),
    "None for attacks": (
        {"attacks": None},
        "`attacks` must name at least one. Received: none",
    ),
    "not an attack": (
        {"attacks": [3]},
        "`attacks` must be attacks or names of attacks. Received: 3",
    ),
    "name without eps": (
        {"attacks": ["pgd20"]},
        "The budget of an attack by name must be given once, as `eps` or in "
        "the name, as it depends on the data set. Received: eps=None for "
        "'pgd20'",
    ),
    "name with two budgets": (
        {"attacks": "fgsm,pgd20:eps=0.1", "eps": 0.3},
        "The budget of an attack by name must be given once, as `eps` or in "
        "the name, as it depends on the data set. Received: eps=0.3 for "
        "'pgd20:eps=0.1'",
    ),
    "eps": (
        {"eps": [0.1, -0.1]},
        "`eps` must consist of finite numbers greater than 0. Received: "
        "eps=[0.1, -0.1]",
    ),
    "eps as text": (
        {"eps": "8/255"},
        "`eps` must consist of finite numbers greater than 0. Received: "
        "eps='8/255'",
    ),
    "eps in a norm of no attack": (
        {"eps": {"linf": 0.1, "l2": 1}},
        "`eps` must hold budgets in the norms of the attacks only. Received: "
        "eps={'linf': 0.1, 'l2': 1}, and no attack in l2",
    ),
    "name without eps in its norm": (
        {"attacks": ["pgd20", "cw1000"], "eps": {"linf": 0.3}},
        "`eps` must hold a budget in the norm of each attack by name. "
        "Received: eps={'linf': 0.3} for 'cw1000', whose norm is 'l2'",
    ),
    "unknown norm": (
        {"eps": {"Linf": 0.3}},
        "Invalid value for argument `norm`. Expected one of ['l2', 'linf']. "
        "Received: norm='Linf'",
    ),
    "norms": (
        {"attacks": [FGSM, kwp.attacks.FGSM(eps=1, norm="l2")], "eps": 0.1},
        "`eps` must be a dictionary from norm to budget when the attacks use "
        "several norms. Received: eps=0.1 for the norms ['l2', 'linf']",
    ),
    "bounds": (
        {"attacks": [FGSM, kwp.attacks.FGSM(eps=1, bounds=(-1, 1))]},
        "The attacks must agree on `bounds`. Received: [(-1.0, 1.0), (0.0, "
        "1.0)]",
    ),
    "batch size": (
        {"batch_size": 0},
        "Argument `batch_size` must be an integer of at least 1. Received: "
        "batch_size=0",
    ),
}


@pytest.mark.parametrize("kind", BAD_ARGUMENTS)
def test_bad_argument_gets_one_sentence(model, data, kind):
    arguments, message = BAD_ARGUMENTS[kind]
    with pytest.raises(ValueError) as error:
        evaluate(model, data, **{"attacks": [FGSM], **arguments})
    assert str(error.value) == message


def test_nan_weights_are_refused(data):
    model = tiny_cnn()
    kernel = model.layers[-1].kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(ValueError) as error:
        evaluate(model, data, [FGSM])
    assert str(error.value) == (
        "The model's weights must be finite. Received: NaN or infinity in "
        f"{kernel.path!r}"
    )


@pytest.mark.parametrize("size", [60, 2, 1])
def test_training_mode_is_refused(size, data):
    model, data = tiny_cnn(), Batches(*data, size)
    training = functools.partial(model, training=True)
    with pytest.raises(ValueError, match="is it in training mode") as error:
        evaluate(training, data, [FGSM])
    assert "in a batch of" in str(error.value)


def test_randomized_model_is_warned_of(model, data):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("A jitted function of JAX draws the same numbers again.")
    import tensorflow as tf

    def randomized(x):
        return model(x, training=False) + tf.random.normal([5])

    with pytest.warns(UserWarning) as caught:
        evaluate(randomized, data, [FGSM])
    assert str(caught[0].message) == (
        "The model gives different logits for the same images: it is "
        "randomized, or in training mode. Gradients are means over several "
        "draws, and an image counts as fooled if most of 32 fresh draws are."
    )


def test_gradients_that_are_not_finite_are_warned_of(model, data):
    def sharp(x):
        logits = model(x, training=False)
        # Times one, but with an infinite derivative.
        zero = keras.ops.sum(x - keras.ops.stop_gradient(x), axis=(1, 2, 3))
        return logits * (1 + keras.ops.sqrt(keras.ops.abs(zero)))[:, None]

    with pytest.warns(UserWarning) as caught:
        report = evaluate(sharp, data, [FGSM])
    assert str(caught[0].message) == (
        "FGSM met gradients that are not finite on 45 of 45 images and took "
        "them for zero: its accuracy may be too high."
    )
    assert report.robust_accuracy == 0.75


def test_vanished_gradients_are_counted(model, data):
    def flat(x):
        return keras.ops.round(model(x, training=False) * 8)

    report = evaluate(flat, data, [FGSM])
    attacked = report["FGSM"].attacked.sum()
    assert report["FGSM"].vanished_gradients == 1.0
    assert (report["FGSM"].zero_gradients > 0).sum() == attacked


def test_augmented_data_is_refused(model, data):
    class Augmented(Batches):
        def __iter__(self):
            self.x = self.x * np.float32(0.999)
            yield from super().__iter__()

    with pytest.raises(ValueError, match="the same images each time") as error:
        evaluate(model, Augmented(*data, 20), [FGSM])
    assert str(error.value).endswith("take random augmentation out of it")


def test_nothing_is_printed(model, data, capfd):
    evaluate(model, data, [FGSM], progress=True)
    assert capfd.readouterr() == ("", "")
