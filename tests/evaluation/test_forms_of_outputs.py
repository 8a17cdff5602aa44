"""What the numbers that a model returns are taken for."""

import keras
import numpy as np
import pytest
from helpers import message_of, plainly, random_images, tiny_cnn, to_numpy
from keras import layers, ops

import keras_wp as kwp
from keras_wp import norms
from keras_wp._units import Units
from keras_wp.attacks import PGD

BYTES = np.random.default_rng(0).integers(0, 256, (24, 6, 6, 1), np.uint8)


def line(*ends):
    """z = 2 a - 1 of the first of two features, and what follows."""
    x = keras.Input((2,))
    dense = layers.Dense(1)
    z = dense(x)
    for end in ends:
        z = end(z)
    model = keras.Model(x, z)
    dense.set_weights([np.array([[2.0], [0.0]]), np.array([-1.0])])
    return model


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    "ends",
    [
        (),
        (layers.Identity(),),
        (layers.Rescaling(1.0),),
        (layers.Reshape((1, 1)),),
        (layers.Activation("linear", dtype="float32"),),
    ],
)
def test_one_output_from_0_to_1_is_no_probability_by_chance(order, ends):
    a = np.r_[np.linspace(0.8, 0.95, 20), np.linspace(0.05, 0.45, 20)]
    x = np.stack([a, 0 * a], axis=1).astype(np.float32)[::order].copy()
    y = (x[:, 0] > 0.5).astype(int)
    report = plainly(line(*ends), (x, y), PGD(eps=0.2, steps=20))
    assert report.clean_accuracy == 1.0
    np.testing.assert_array_equal(report.robust(), np.abs(x[:, 0] - 0.5) > 0.2)


@pytest.mark.once
def test_a_single_image_shows_enough_of_a_sigmoid():
    a = np.linspace(0.05, 0.95, 40, dtype=np.float32)
    x = np.stack([a, a], axis=1)
    y = (a > 0.5).astype(int)
    image = keras.Input((2,))
    ends = [layers.Dense(1, activation="sigmoid")(image) for _ in "ab"]
    model = keras.Model(image, layers.Average()(ends))
    kernel, bias = np.full((2, 1), 5.0), np.full(1, -5.0)
    model.set_weights([kernel, bias, kernel, bias])
    attack = PGD(eps=0.1, steps=10)
    single = [(x[i : i + 1], y[i : i + 1]) for i in range(40)]
    report = plainly(model, single, attack)
    assert report.clean_accuracy == 1.0
    np.testing.assert_array_equal(report.robust(), np.abs(a - 0.5) > 0.1)
    alone = np.concatenate(
        [attack(model, x[i : i + 1], y[i : i + 1]) for i in range(40)]
    )
    wrong = (to_numpy(model(alone))[:, 0] > 0.5) != y
    np.testing.assert_array_equal(~wrong, report.robust())


def whole_model(base, largest=255):
    x = keras.Input((6, 6, 1), dtype="uint8")
    return keras.Model(x, base(layers.Rescaling(1 / largest)(x)))


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=0.4, steps=20, norm="l2"),
        PGD(eps=0.1, steps=20),
        kwp.attacks.Square(eps=0.4, norm="l2", steps=100),
        kwp.attacks.DeepFool(steps=20),
        kwp.attacks.CarliniWagner(steps=40),
    ],
    ids=lambda attack: attack.label,
)
def test_whole_numbers_stay_within_the_ball(attack, tmp_path):
    """Of 16 levels, where rounding moves far."""
    base = tiny_cnn()
    model = whole_model(base, 15)
    x = (BYTES // 17).astype(np.float32)
    y = to_numpy(model(x)).argmax(-1)
    inputs = kwp.Inputs(bounds=(0, 15), dtype="uint8")
    path = tmp_path / "adversarial.npz"
    report = plainly(
        model, (x, y), attack, inputs=inputs, save_adversarial=path
    )
    (result,) = report.results
    saved = np.load(path)["x_adv_0"]
    np.testing.assert_array_equal(saved, np.rint(saved))
    fooled = result.attacked & ~result.robust
    assert fooled.any()
    moved = ((saved - x) / 15).astype(np.float32)
    length = to_numpy(norms.get(attack.norm).length(moved))
    np.testing.assert_allclose(
        result.distance[fooled], length[fooled], rtol=1e-4
    )
    if result.eps is not None:
        assert length[fooled].max() <= result.eps * (1 + 1e-5)
    right = to_numpy(model(saved)).argmax(-1) == y
    np.testing.assert_array_equal(right, ~fooled)


def test_the_mean_of_sigmoids_is_that_of_an_ensemble():
    members = []
    for seed in (0, 3):
        x = keras.Input((6, 6, 1))
        scaled = layers.Rescaling(3.0)(tiny_cnn(seed=seed)(x))
        members.append(keras.Model(x, layers.Activation("sigmoid")(scaled)))
    x = random_images(40)
    mean = sum(to_numpy(member(x)) for member in members) / 2
    y = mean.argmax(-1)
    report = plainly(members, (x, y), PGD(eps=0.02, steps=10))
    assert report.clean_accuracy == 1.0
    x_adv = PGD(eps=0.02, steps=10)(members, x, y)
    mean = sum(to_numpy(member(x_adv)) for member in members) / 2
    np.testing.assert_array_equal(mean.argmax(-1) == y, report.robust())


@pytest.mark.slow
@pytest.mark.once
def test_what_ties_bytes_to_pixels_is_no_mask_of_the_model():
    x = keras.Input((6, 6, 1))
    hidden = layers.Flatten()(layers.Rescaling(1 / 255)(x))
    for model in (
        keras.Model(x, layers.Dense(5)(hidden)),
        whole_model(tiny_cnn()),
    ):
        y = to_numpy(model(BYTES)).argmax(-1)
        attack = PGD(eps=4 / 255, steps=10)
        report = kwp.evaluate(model, (BYTES, y), attack, progress=False)
        grave = [f for f in report.findings if f.severity != "info"]
        assert {f.check for f in grave} <= {"adaptive_attack"}
        assert "surrogate" not in report.environment["inside"]


def test_members_choose_among_their_outputs():
    base = tiny_cnn()
    x = keras.Input((6, 6, 1))
    model = keras.Model(x, {"a": base(x), "b": layers.Flatten()(x)})
    images = random_images(12)
    y = to_numpy(base(images)).argmax(-1)
    attack = PGD(eps=0.03, steps=5)
    one = plainly(base, (images, y), attack)
    two = plainly([model, model], (images, y), attack, output="a")
    np.testing.assert_array_equal(one.robust(), two.robust())


@pytest.mark.parametrize(
    "options, words",
    [
        ({"output": "nonsense"}, "`output` must name an output of the model"),
        (
            {"inputs": kwp.Inputs(mean=np.zeros((6, 6)))},
            "One number for each channel must fit the images",
        ),
    ],
)
def test_what_is_misspelt_is_refused(options, words):
    x = random_images(4)
    assert words in message_of(
        plainly,
        tiny_cnn(),
        (x, np.zeros(4, int)),
        PGD(eps=0.1, steps=1),
        **options,
    )


def test_images_of_16_bits_need_their_range():
    x = BYTES.astype(np.uint16) * 16
    assert "Images of whole numbers need their range" in message_of(
        plainly, tiny_cnn(), (x, np.zeros(24, int)), PGD(eps=0.1, steps=1)
    )


def test_a_dark_first_batch_does_not_hide_the_range():
    base = tiny_cnn()
    x = keras.Input((6, 6, 1))
    model = keras.Model(x, base(layers.Rescaling(1 / 255)(x)))
    images = np.concatenate([np.zeros((3, 6, 6, 1), np.uint8), BYTES])
    y = to_numpy(model(images)).argmax(-1)
    batches = [(images[i : i + 3], y[i : i + 3]) for i in range(0, 27, 3)]
    report = plainly(model, batches, PGD(eps=8 / 255, steps=3))
    assert "images in [0, 255]" in report.environment["assumed"]


def test_weights_of_images_are_passed_over():
    model, x = tiny_cnn(), random_images(8)
    y = to_numpy(model(x)).argmax(-1)
    attack = PGD(eps=0.03, steps=3)
    weighted = plainly(model, (x, y, np.ones(8)), attack)
    np.testing.assert_array_equal(
        weighted.robust(), plainly(model, (x, y), attack).robust()
    )


def test_whole_points_are_the_nearest_within_the_ball():
    units = Units((0.0, 1.0), kwp.Inputs(bounds=(0, 10), dtype="uint8"))
    clean = np.array([[0.5, 0.5]], np.float32)
    point = np.array([[0.66, 0.57]], np.float32)
    for eps, levels in ((None, [7, 6]), (0.25, [7, 6]), (0.175, [6, 5])):
        found = units.on_levels(point, clean, norms.get("l2"), eps)
        np.testing.assert_allclose(10 * found[0], levels, atol=1e-5)


def test_a_signature_of_tensorflow_is_a_function_like_any_other():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("signatures are TensorFlow's")
    import tensorflow as tf

    base = tiny_cnn()
    function = tf.function(lambda x: ops.softmax(base(x)))
    x = random_images(6)
    concrete = function.get_concrete_function(tf.TensorSpec((None, 6, 6, 1)))
    y = to_numpy(base(x)).argmax(-1)
    report = plainly(concrete, (x, y), PGD(eps=0.03, steps=3))
    assert report.clean_accuracy == 1.0
