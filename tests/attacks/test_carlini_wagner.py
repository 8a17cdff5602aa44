import keras
import numpy as np
import pytest
from helpers import linear_logits, linear_model, predictions, to_numpy
from keras import ops

from keras_wp import Surrogate, _noise
from keras_wp.attacks import CarliniWagner, carlini_wagner
from keras_wp.engine import stream


def linear_problem(rng, size=60, classes=5, count=24, images=None):
    """A random linear model, images, the labels it gives, its logits."""
    kernel = rng.normal(size=(size, classes)).astype(np.float32)
    if images is None:
        images = rng.uniform(0.25, 0.75, (count, size)).astype(np.float32)
    bias = -images.mean(0) @ kernel
    logits = linear_logits(kernel, bias, images)
    return kernel, bias, images, logits.argmax(-1), logits


def closed_form(kernel, logits, labels):
    """Distances to each class's boundary, infinite to the own: `(N, K)`."""
    rows = np.arange(len(labels))
    gaps = logits[rows, labels][:, None] - logits
    weights = kernel.T.astype(np.float64)
    lengths = np.linalg.norm(weights[labels][:, None] - weights, axis=-1)
    lengths[rows, labels] = 1.0
    distances = gaps / lengths
    distances[rows, labels] = np.inf
    return distances


def outcomes(attack, model, x, y):
    logits = to_numpy(model(ops.convert_to_tensor(x)))
    keys = _noise.seeded(_noise.image_digests(x), 0, attack.seed)
    images = [
        stream.Image(i, x[i], int(y[i]), int(y[i]), keys[i], logits[i])
        for i in range(len(x))
    ]
    return sorted(stream.run(attack, model, images, batch_size=len(x)))


def ratios(attack, model, x, y, expected):
    found = outcomes(attack, model, x, y)
    assert all(outcome.success for outcome in found)
    return np.array([outcome.distance for outcome in found]) / expected


def scaled_ratios(attack, rng, **sizes):
    """Ratios to the closed form at three scales of the same logits.

    One model takes the weights in turn, so that it is compiled once.
    """
    kernel, bias, x, y, logits = linear_problem(rng, **sizes)
    expected = closed_form(kernel, logits, y).min(-1)
    model = linear_model(kernel, bias)
    for scale in (1e-3, 1.0, 1e3):
        weights = [np.float32(scale) * kernel, np.float32(scale) * bias]
        model.layers[-1].set_weights(weights)
        yield ratios(attack, model, x, y, expected)


def test_finds_the_closed_form_distance_at_any_scale(rng):
    for ratio in scaled_ratios(CarliniWagner(steps=100), rng):
        assert ratio.min() > 1.0 - 1e-4
        assert np.median(ratio) < 1.01
        # Descent goes to the class of the largest logit; the nearest is
        # another for few images.
        assert np.quantile(ratio, 0.9) < 1.05


def test_every_image_is_near_the_optimum_with_two_classes(rng):
    for ratio in scaled_ratios(CarliniWagner(steps=100), rng, classes=2):
        assert ratio.min() > 1.0 - 1e-4
        assert ratio.max() < 1.05


@pytest.mark.once
@pytest.mark.parametrize("distance", [1e-4, 1e-2, 1.0])
def test_finds_distances_of_any_size(rng, distance):
    direction = rng.normal(size=100).astype(np.float32)
    direction *= np.float32(0.2 / np.abs(direction).max())
    kernel = np.stack([direction, np.zeros(100, np.float32)], 1)
    kernel /= np.linalg.norm(direction)
    x = rng.uniform(0.4, 0.6, (1, 100)).astype(np.float32)
    bias = np.array([distance - x[0] @ kernel[:, 0], 0.0], np.float32)
    exact = linear_logits(kernel, bias, x)[0, 0]
    assert np.isclose(exact, distance, rtol=0.02)
    model = linear_model(kernel, bias)
    ratio = ratios(CarliniWagner(steps=100), model, x, np.array([0]), exact)
    assert 0.98 < ratio[0] < 1.05


def boxed_distance(direction, gap, x):
    """The shortest way to `<direction, d> = gap` within [0, 1]."""

    def step(t):
        return np.clip(x + t * direction, 0.0, 1.0) - x

    least, most = 0.0, 1e3
    for _ in range(100):
        middle = 0.5 * (least + most)
        if step(middle) @ direction < gap:
            least = middle
        else:
            most = middle
    return np.linalg.norm(step(most))


@pytest.mark.once
def test_images_on_the_bounds_are_moved_as_far_as_needed(rng):
    images = (rng.uniform(size=(12, 100)) < 0.2).astype(np.float32)
    kernel, bias, x, y, logits = linear_problem(
        rng, size=100, classes=2, images=images
    )
    expected = []
    for image, label, z in zip(x, y, logits, strict=True):
        direction = (kernel[:, 1 - label] - kernel[:, label]).astype(float)
        gap = z[label] - z[1 - label]
        expected.append(boxed_distance(direction, gap, image.astype(float)))
    model = linear_model(kernel, bias)
    attack = CarliniWagner(steps=100)
    ratio = ratios(attack, model, x, y, np.array(expected))
    assert ratio.min() > 1.0 - 1e-4 and ratio.max() < 1.05


def test_wider_bounds_scale_the_problem(rng):
    kernel, bias, x, y, logits = linear_problem(rng, classes=2)
    expected = closed_form(kernel, logits, y).min(-1)
    # The same problem in units of 1 / 255, from -100 to 155.
    model = linear_model(kernel / 255.0, bias + 100.0 / 255 * kernel.sum(0))
    attack = CarliniWagner(steps=100, bounds=(-100.0, 155.0))
    pixels = 255.0 * x - 100.0
    ratio = ratios(attack, model, pixels, y, 255.0 * expected)
    assert ratio.min() > 0.99 and ratio.max() < 1.05


@pytest.mark.once
def test_confidence_is_the_margin_of_what_is_found(rng):
    kernel, bias, x, y, logits = linear_problem(rng, classes=2)
    model = linear_model(kernel, bias)
    attack = CarliniWagner(steps=100, confidence=1.5)
    found = attack(model, x, y)
    after = linear_logits(kernel, bias, found)
    rows = np.arange(len(y))
    margin = after[rows, 1 - y] - after[rows, y]
    assert margin.min() > 1.5 - 1e-4
    width = np.linalg.norm(kernel[:, 0] - kernel[:, 1])
    expected = (logits[rows, y] - logits[rows, 1 - y] + 1.5) / width
    distance = np.linalg.norm(found - x, axis=1)
    assert (distance / expected).max() < 1.05


@pytest.mark.once
def test_targeted_reaches_the_class_aimed_at(rng):
    kernel, bias, x, y, logits = linear_problem(rng, classes=3, count=12)
    target = ((y + 1) % 3).astype(np.int32)
    model = linear_model(kernel, bias)
    attack = CarliniWagner(steps=100, targeted=True)
    found = attack(model, x, target)
    assert (predictions(model, found) == target).all()
    # No nearer than the boundary between the two classes, and on it unless
    # the third class is in between.
    floor = closed_form(kernel, logits, y)[np.arange(len(y)), target]
    ratio = np.linalg.norm(found - x, axis=1) / floor
    assert ratio.min() > 1.0 - 1e-4
    assert np.median(ratio) < 1.05


@pytest.mark.once
def test_no_search_goes_on_without_progress(rng):
    kernel, bias, x, y, logits = linear_problem(rng)
    model = linear_model(kernel, bias)
    attack = CarliniWagner(steps=400)
    steps = np.array([o.steps for o in outcomes(attack, model, x, y)])
    # A search needs two looks at least, a twentieth of its steps apart; or at
    # least a tenth, where four steps of the learning rate do not reach the
    # boundary.
    distance = closed_form(kernel, logits, y).min(axis=1)
    far = distance > 4 * 0.01 * 0.5 / 0.99 * np.sqrt(kernel.shape[0])
    assert 0 < far.sum() < len(x)
    assert steps.min() >= 9 * 2 * 20
    assert steps[far].min() >= 9 * 2 * 40
    assert steps[~far].mean() < 0.2 * attack.updates
    assert steps.max() < 0.6 * attack.updates
    assert len(set(steps)) > 1


@pytest.mark.once
def test_a_model_without_gradients_ends_soon():
    kernel = np.zeros((10, 3), np.float32)
    model = linear_model(kernel, np.array([2.0, 0.0, 0.0], np.float32))
    x = np.full((2, 10), 0.5, np.float32)
    y = np.zeros(2, np.int32)
    attack = CarliniWagner(steps=100)
    for outcome in outcomes(attack, model, x, y):
        assert not outcome.success
        assert outcome.steps == 9 * 2 * 5
        assert outcome.zero_gradients == outcome.steps
    np.testing.assert_array_equal(attack(model, x, y), x)


def test_a_step_is_adams_in_tanh_space(rng):
    # Adam's first step is the learning rate against the sign of the gradient.
    kernel = rng.normal(size=(20, 2)).astype(np.float32)
    kernel *= 1e-3
    model = linear_model(kernel, np.array([1.0, 0.0], np.float32))
    x = rng.uniform(0.1, 0.9, (1, 20)).astype(np.float32)
    y = np.zeros(1, np.int32)
    attack = CarliniWagner(
        steps=1, binary_search_steps=1, initial_const=1.0, learning_rate=0.02
    )
    (outcome,) = outcomes(attack, model, x, y)
    toward = np.sign(kernel[:, 1] - kernel[:, 0])
    shrunk = 0.99 * (2.0 * x.astype(float) - 1.0)
    w = np.arctanh(shrunk) + 0.02 * toward
    expected = 0.5 * (np.tanh(w) / 0.99 + 1.0)
    np.testing.assert_allclose(outcome.x_adv, expected[0], atol=2e-6)


@pytest.mark.once
def test_a_search_begins_at_the_nearest_adversarial_image(rng):
    kernel, bias, x, y, _ = linear_problem(rng, classes=2, count=6)
    model = linear_model(kernel, bias)
    few = CarliniWagner(steps=100, binary_search_steps=2)
    many = CarliniWagner(steps=100, binary_search_steps=9)
    first = [o.distance for o in outcomes(few, model, x, y)]
    last = [o.distance for o in outcomes(many, model, x, y)]
    # Never farther, as searches only go on from what is known.
    assert all(b <= a for a, b in zip(first, last, strict=True))


def test_constants_are_those_of_the_paper():
    # Section VI.A of the paper and the authors' l2_attack.py for all but the
    # number of steps, which is that of Table 1.
    attack = CarliniWagner()
    assert attack.binary_search_steps == 9
    assert attack.learning_rate == 1e-2
    assert attack.initial_const == 1e-3
    assert attack.confidence == 0
    assert attack.steps == 1000
    assert carlini_wagner._GROWTH == 10
    assert carlini_wagner._PROGRESS == 0.9999
    assert (carlini_wagner._BETA_1, carlini_wagner._BETA_2) == (0.9, 0.999)
    assert carlini_wagner._EPSILON == 1e-8


def test_names_tell_attacks_apart():
    assert CarliniWagner().label == "C&W1000"
    assert CarliniWagner(steps=50, targeted=True).label == "C&W50-targeted"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"norm": "linf"},
            "The attack of Carlini and Wagner is implemented for norm='l2'. "
            "Received: norm='linf'",
        ),
        (
            {"steps": 0},
            "Argument `steps` must be an integer of at least 1. "
            "Received: steps=0",
        ),
        (
            {"binary_search_steps": 1.5},
            "Argument `binary_search_steps` must be an integer of at least 1. "
            "Received: binary_search_steps=1.5",
        ),
        (
            {"learning_rate": 0.0},
            "Argument `learning_rate` must be a finite number greater than 0. "
            "Received: learning_rate=0.0",
        ),
        (
            {"initial_const": -1.0},
            "Argument `initial_const` must be a finite number greater than 0. "
            "Received: initial_const=-1.0",
        ),
        (
            {"confidence": -2.0},
            "Argument `confidence` must be a finite number greater than 0. "
            "Received: confidence=-2.0",
        ),
        (
            {"eps": 0.0},
            "Argument `eps` must be a finite number greater than 0. "
            "Received: eps=0.0",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        CarliniWagner(**arguments)
    assert str(error.value) == message


def test_standardized_logits_are_refused():
    with pytest.raises(ValueError) as error:
        CarliniWagner(surrogate=Surrogate(standardize=True))
    assert str(error.value).startswith(
        "The attack of Carlini and Wagner weighs logits by their gap at the "
        "clean image, and cannot follow standardized ones. Received: "
    )


@pytest.mark.once
def test_works_on_images_with_channels():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).uniform(size=(5, 6, 6, 2))
    x = x.astype(np.float32)
    y = predictions(model, x)
    found = CarliniWagner(steps=50)(model, x, y)
    assert found.shape == x.shape
    assert (predictions(model, found) != y).all()
