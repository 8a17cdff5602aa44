"""One network in many forms: the same verdict for every image."""

import keras
import numpy as np
import pytest
from helpers import plainly, tiny_cnn, to_numpy
from keras import layers, ops

import keras_wp as kwp
from keras_wp._backend.saved_model import SavedModel

EPS = 8 / 255
ATTACKS = [
    kwp.attacks.PGD(eps=EPS, steps=8),
    kwp.attacks.FAB(steps=4),
    kwp.attacks.Square(eps=EPS, steps=30),
]
SHAPE = (6, 6, 1)
BYTES = np.random.default_rng(0).integers(0, 256, (24, *SHAPE), np.uint8)
PIXELS = (BYTES / np.float32(255)).astype(np.float32)
MEAN, STD = 0.45, 0.22


@pytest.fixture(scope="module")
def base():
    return tiny_cnn()


@pytest.fixture(scope="module")
def labels(base):
    y = to_numpy(base(PIXELS)).argmax(-1)
    y[::6] = (y[::6] + 1) % 5
    return y


@pytest.fixture(scope="module")
def expected(base, labels):
    report = plainly(base, (PIXELS, labels), ATTACKS, eps=EPS)
    assert 0.1 < report.robust_accuracy < report.clean_accuracy
    return report


def same_verdicts(report, expected):
    assert len(report.results) == len(expected.results)
    for found, wanted in zip(report.results, expected.results, strict=True):
        np.testing.assert_array_equal(found.robust, wanted.robust)
        np.testing.assert_array_equal(found.attacked, wanted.attacked)


def ended(base, *more):
    """The network with other layers behind its logits."""
    x = keras.Input(SHAPE)
    z = base(x)
    for layer in more:
        z = layer(z)
    return keras.Model(x, z)


def dense_ending(base, activation):
    last = layers.Dense(5, activation=activation)
    model = keras.Sequential([keras.Input(SHAPE), *base.layers[:-1], last])
    last.set_weights(base.layers[-1].get_weights())
    return model


class Subclassed(keras.Model):
    def __init__(self, base):
        super().__init__()
        self.base = base

    def call(self, x):
        return ops.softmax(self.base(x))


def wrapped_twice(base):
    return ended(ended(base, layers.Softmax()), layers.Identity())


def temperature(base):
    return ended(base, layers.Rescaling(4.0), layers.Softmax())


MODELS = {
    "softmax layer": lambda base: ended(base, layers.Softmax()),
    "activation": lambda base: ended(base, layers.Activation("softmax")),
    "float32 activation": lambda base: ended(
        base, layers.Activation("softmax", dtype="float32")
    ),
    "softmax of the last layer": lambda base: dense_ending(base, "softmax"),
    "sigmoid of the last layer": lambda base: dense_ending(base, "sigmoid"),
    "log-softmax": lambda base: dense_ending(base, "log_softmax"),
    "nested": wrapped_twice,
    "subclassed": Subclassed,
    "function": lambda base: lambda x: ops.softmax(base(x, training=False)),
    "reshaped": lambda base: ended(
        base, layers.Softmax(), layers.Reshape((1, 1, 5))
    ),
    "temperature": temperature,
    "predict": lambda base: ended(base, layers.Softmax()).predict,
    "dictionary of one": lambda base: keras.Model(
        base.inputs, {"classes": layers.Softmax()(base.outputs[0])}
    ),
    "ensemble of one": lambda base: [ended(base, layers.Softmax())],
}


@pytest.mark.parametrize("form", MODELS)
def test_a_softmax_or_sigmoid_changes_nothing(base, labels, expected, form):
    model = MODELS[form](base)
    report = plainly(model, (PIXELS, labels), ATTACKS, eps=EPS)
    same_verdicts(report, expected)
    if form not in ("log-softmax", "ensemble of one"):
        assert "removed" in report.environment["assumed"]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_file_changes_nothing(base, labels, expected, suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    dense_ending(base, "softmax").save(path)
    model = keras.saving.load_model(path, compile=False)
    report = plainly(model, (PIXELS, labels), ATTACKS, eps=EPS)
    same_verdicts(report, expected)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="SavedModels run there"
)
def test_a_saved_model_is_attacked_by_its_logarithms(
    base, labels, expected, tmp_path
):
    dense_ending(base, "softmax").export(tmp_path / "saved", verbose=False)
    model = SavedModel(tmp_path / "saved")
    report = plainly(model, (PIXELS, labels), ATTACKS, eps=EPS)
    same_verdicts(report, expected)
    assert (
        "logits are taken from its probabilities"
        in (report.environment["assumed"])
    )


def scaled(base):
    """The network for pixels from 0 to 255."""
    x = keras.Input(SHAPE)
    return keras.Model(x, base(layers.Rescaling(1 / 255)(x)))


def normalized(base):
    """The network for images that were normalized outside."""
    x = keras.Input(SHAPE)
    return keras.Model(x, base(layers.Rescaling(STD, MEAN)(x)))


@pytest.mark.once
def test_images_of_bytes_have_their_range_by_their_type(base, labels, expected):
    report = plainly(scaled(base), (BYTES, labels), ATTACKS, eps=EPS)
    same_verdicts(report, expected)
    assert "images in [0, 255]" in report.environment["assumed"]


@pytest.mark.once
def test_pixels_up_to_255_are_described(base, labels, expected):
    data = (BYTES.astype(np.float32), labels)
    inputs = kwp.Inputs(bounds=(0, 255))
    report = plainly(scaled(base), data, ATTACKS, eps=EPS, inputs=inputs)
    same_verdicts(report, expected)


@pytest.mark.once
def test_attacks_may_be_in_units_of_255(base, labels, expected):
    attacks = [a.with_bounds((0.0, 255.0)) for a in ATTACKS]
    report = plainly(scaled(base), (BYTES, labels), attacks, eps=8.0)
    same_verdicts(report, expected)


@pytest.mark.once
@pytest.mark.parametrize(
    "mean, std", [(MEAN, STD), ([MEAN], [STD])], ids=["one", "per channel"]
)
def test_normalization_outside_of_the_model(base, labels, expected, mean, std):
    data = ((PIXELS - MEAN) / STD, labels)
    inputs = kwp.Inputs(mean=mean, std=std)
    report = plainly(normalized(base), data, ATTACKS, eps=EPS, inputs=inputs)
    same_verdicts(report, expected)


def test_bounds_per_channel_are_those_of_normalized_pixels(
    base, labels, expected
):
    bounds = ([-MEAN / STD], [(1 - MEAN) / STD])
    data = ((PIXELS - MEAN) / STD, labels)
    inputs = kwp.Inputs(bounds=bounds)
    report = plainly(normalized(base), data, ATTACKS, eps=EPS, inputs=inputs)
    same_verdicts(report, expected)


@pytest.mark.once
def test_one_of_the_bounds_may_be_given_per_channel(base, labels, expected):
    data = (BYTES.astype(np.float32), labels)
    inputs = kwp.Inputs(bounds=(0, [255]))
    report = plainly(scaled(base), data, ATTACKS, eps=EPS, inputs=inputs)
    same_verdicts(report, expected)
    assert "bounds per channel" in report.environment["assumed"]


def test_channels_may_come_first(base, labels, expected):
    x = keras.Input((1, 6, 6))
    model = keras.Model(x, base(layers.Permute((2, 3, 1))(x)))
    data = (PIXELS.transpose(0, 3, 1, 2), labels)
    report = plainly(model, data, ATTACKS[:2], eps=EPS)
    for found, wanted in zip(report.results, expected.results, strict=False):
        np.testing.assert_array_equal(found.robust, wanted.robust)


def test_a_fixed_batch_size_is_no_hindrance(base, labels, expected):
    x = keras.Input(batch_shape=(7, *SHAPE))
    model = keras.Model(x, layers.Softmax()(base(x)))
    report = plainly(model, (PIXELS, labels), ATTACKS, eps=EPS)
    same_verdicts(report, expected)
    assert "batches of 7" in report.environment["assumed"]


@pytest.mark.once
def test_other_outputs_and_inputs_stay_as_they_are(base, labels, expected):
    image, meta = (
        keras.Input(SHAPE, name="image"),
        keras.Input((3,), name="meta"),
    )
    shift = layers.Dense(5, name="shift")(meta)
    classes = layers.Softmax(name="classes")(base(image) + 0.0 * shift)
    model = keras.Model(
        [image, meta], {"classes": classes, "other": layers.Flatten()(image)}
    )
    report = plainly(
        model,
        (PIXELS, labels),
        ATTACKS,
        eps=EPS,
        inputs={"meta": np.ones(3)},
        output="classes",
    )
    same_verdicts(report, expected)


@pytest.mark.once
def test_a_mean_of_softmaxes_is_undone_as_a_whole(base, labels):
    other = tiny_cnn(seed=7)
    other.name = "other"
    x = keras.Input(SHAPE)
    members = [layers.Softmax()(member(x)) for member in (base, other)]
    averaged = keras.Model(x, layers.Average()(members))
    one = plainly(averaged, (PIXELS, labels), ATTACKS, eps=EPS)
    assert "softmax of each member removed" in one.environment["assumed"]
    two = plainly([base, other], (PIXELS, labels), ATTACKS, eps=EPS)
    same_verdicts(one, two)
    assert one.robust_accuracy < one.clean_accuracy


def test_an_input_of_whole_numbers_is_attacked_in_whole_numbers(base, labels):
    x = keras.Input(SHAPE, dtype="uint8")
    model = keras.Model(x, base(layers.Rescaling(1 / 255)(x)))
    attack = kwp.attacks.PGD(eps=8.4 / 255, steps=8)
    report = plainly(model, (BYTES, labels), [attack])
    assert report.results[0].eps == pytest.approx(8 / 255)
    assert report.robust_accuracy < report.clean_accuracy
    x_adv = attack(model, BYTES, labels)
    assert x_adv.dtype == np.uint8
    moved = np.abs(x_adv.astype(int) - BYTES).reshape(len(BYTES), -1).max(1)
    assert moved.max() <= 8
    wrong = to_numpy(model(x_adv)).argmax(-1) != labels
    np.testing.assert_array_equal(~wrong, report.results[0].robust)


def test_an_input_of_whole_numbers_needs_their_range(base, labels):
    x = keras.Input(SHAPE, dtype="int32")
    model = keras.Model(x, base(layers.Rescaling(1 / 255)(x)))
    with pytest.raises(ValueError, match="takes whole numbers, of type int32"):
        plainly(model, (PIXELS, labels), ATTACKS[:1])


def test_saved_images_are_in_units_of_the_model(base, labels, tmp_path):
    path = tmp_path / "adversarial.npz"
    model = normalized(base)
    data = ((PIXELS - MEAN) / STD, labels)
    report = plainly(
        model,
        data,
        ATTACKS[:1],
        inputs=kwp.Inputs(mean=MEAN, std=STD),
        save_adversarial=path,
    )
    saved = np.load(path)
    np.testing.assert_allclose(saved["x"], data[0], atol=1e-6)
    right = to_numpy(model(saved["x_adv_0"])).argmax(-1) == labels
    np.testing.assert_array_equal(right, report.robust())


class Foreign(keras.layers.Layer):
    """A softmax that Keras cannot look into."""

    def __init__(self):
        super().__init__()
        if keras.backend.backend() == "jax":
            import jax

            self.function = jax.nn.softmax
        elif keras.backend.backend() == "torch":
            import torch

            self.function = lambda z: torch.softmax(z, -1)
        else:
            import tensorflow as tf

            self.function = lambda z: tf.raw_ops.Softmax(logits=z)

    def compute_output_shape(self, shape):
        return shape

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)

    def call(self, z):
        return self.function(ops.convert_to_tensor(z))


@pytest.mark.once
def test_what_cannot_be_opened_is_undone_by_the_logarithm(
    base, labels, expected
):
    model = ended(base, Foreign())
    report = plainly(model, (PIXELS, labels), ATTACKS[:1], audit=True)
    np.testing.assert_array_equal(
        report.results[0].robust, expected.results[0].robust
    )
    (finding,) = [f for f in report.findings if f.check == "probabilities"]
    assert finding.severity == "info"
    assert finding.evidence["points"] == 0


@pytest.mark.once
def test_digits_that_a_closed_softmax_has_lost_are_a_finding(base, labels):
    model = ended(base, layers.Rescaling(2000.0), Foreign())
    report = plainly(model, (PIXELS, labels), ATTACKS[:1], audit=True)
    (finding,) = [f for f in report.findings if f.check == "probabilities"]
    assert finding.severity == "high"
    assert finding.evidence["points"] > 50


@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="modules of PyTorch"
)
def test_a_module_of_pytorch_has_channels_first(base, labels, expected):
    import torch

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.base = base

        def forward(self, x):
            return torch.softmax(self.base(x.permute(0, 2, 3, 1)), -1)

    data = (PIXELS.transpose(0, 3, 1, 2), labels)
    module = Module()
    with pytest.raises(ValueError, match="call its `eval\\(\\)` before"):
        plainly(module, data, ATTACKS[:1])
    report = plainly(module.eval(), data, ATTACKS[:2], eps=EPS)
    for found, wanted in zip(report.results, expected.results, strict=False):
        np.testing.assert_array_equal(found.robust, wanted.robust)
