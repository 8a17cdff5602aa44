"""In which range a model takes pixels, and what is said of it."""

import keras
import numpy as np
import pytest
from commands import PLAINLY, run
from helpers import mixed_labels, random_images, tiny_cnn

import keras_wp as kwp
from keras_wp.cli import pixels
from keras_wp.cli.pixels import Pixels
from keras_wp.evaluation import ranges
from keras_wp.evaluation.data import Data
from keras_wp.inspection.ranges import by_name, takes_bytes

# The command line is the same on every backend.
pytestmark = pytest.mark.once

PLAIN = ("--attacks", "fgsm", "--eps", "0.05", *PLAINLY)
BYTES = Pixels(0.0, 255.0)


def with_range(model, scale, offset=0.0, count=60):
    """Images in [0, 1], and labels that the model has for another range."""
    x = random_images(count)
    return x, mixed_labels(model, (scale * x + offset).astype("float32"), 5)


@pytest.fixture
def evaluated(tmp_path, capsys):
    """Evaluates a model on data on the command line."""

    def evaluated(model, x, y, *options):
        model.save(tmp_path / "model.keras")
        np.savez(tmp_path / "data.npz", x=x, y=y)
        path = tmp_path / "report.json"
        code = run(
            *["evaluate", tmp_path / "model.keras"],
            *["--data", tmp_path / "data.npz", *PLAIN],
            *["--report", path, *options],
        )
        error = capsys.readouterr().err
        return code, error, kwp.Report.from_json(path) if code == 0 else None

    return evaluated


@pytest.mark.once
def test_a_model_of_bytes_is_found_and_said(evaluated):
    model = tiny_cnn()
    x, y = with_range(model, 255)
    code, error, report = evaluated(model, x, y)
    assert code == 0
    assert error.startswith(
        "keras_wp: pixels are given to the model in [0, 255]. Of 60 images it "
        "classifies correctly "
    )
    assert report.clean_accuracy == pytest.approx(0.8)
    told = report.environment["assumed"]
    assert told == "images in [0, 255], eps in units of [0, 1]"


@pytest.mark.once
def test_what_is_said_is_what_python_says(evaluated):
    model = tiny_cnn()
    x, y = with_range(model, 255)
    _, _, report = evaluated(model, x, y, "--bounds", "0,255")
    direct = kwp.evaluate(
        model,
        (255.0 * x.astype("float64"), y),
        [kwp.attacks.FGSM(eps=0.05)],
        inputs=kwp.Inputs(bounds=(0, 255)),
        adaptive=False,
        audit=False,
    )
    assert report["FGSM"].eps == 0.05
    np.testing.assert_array_equal(report["FGSM"].robust, direct["FGSM"].robust)


@pytest.mark.once
def test_mean_and_deviation_are_applied(evaluated):
    model = tiny_cnn()
    x, y = with_range(model, 4.0, -2.0)
    options = ("--mean", "0.5", "--std", "0.25")
    code, error, report = evaluated(model, x, y, *options)
    assert (code, error) == (0, "")
    assert report.clean_accuracy == pytest.approx(0.8)


@pytest.mark.once
def test_a_model_that_is_at_chance_is_not_attacked_without_a_word(evaluated):
    model = tiny_cnn()
    x = random_images(60)
    y = np.random.default_rng(0).integers(0, 5, 60)
    code, error, _ = evaluated(model, x, y)
    assert code == 2
    assert "as if by chance, whether pixels lie in [0, 1], [0, 255]" in error
    assert "--bounds 0,1 to attack it as it is" in error
    code, error, report = evaluated(model, x, y, "--bounds", "0,1")
    assert code == 0
    (finding,) = report.findings
    assert (finding.severity, finding.check) == ("warning", "chance")
    assert error == (
        "keras_wp: the model is no better than chance on the images as they "
        "are, with pixels in [0, 1]: --bounds, --mean and --std say others.\n"
    )


@pytest.mark.once
@pytest.mark.parametrize("bounds", ["-1,1", "-1, 1"])
def test_bounds_may_begin_with_a_minus(evaluated, bounds):
    model = tiny_cnn()
    x, y = with_range(model, 2.0, -1.0)
    code, _, report = evaluated(model, x, y, "--bounds", bounds)
    assert code == 0
    assert report.clean_accuracy == pytest.approx(0.8)


def first(*layers):
    end = [keras.layers.Flatten(), keras.layers.Dense(5)]
    return keras.Sequential([keras.Input((6, 6, 1)), *layers, *end])


@pytest.mark.once
@pytest.mark.parametrize(
    "layers, expected",
    [
        ([keras.layers.Rescaling(1 / 255)], True),
        ([keras.layers.Rescaling(1 / 127.5, offset=-1)], True),
        ([keras.layers.Rescaling(2.0, offset=-1)], False),
        ([keras.layers.RandomFlip(), keras.layers.Rescaling(1 / 255)], True),
        ([keras.layers.Normalization(mean=[120.0], variance=[9.0])], True),
        ([keras.layers.Normalization(mean=[0.4], variance=[0.1])], False),
        ([first(keras.layers.Rescaling(1 / 255)).layers[0]], True),
        ([keras.layers.Conv2D(2, 3), keras.layers.Rescaling(1 / 255)], False),
    ],
)
def test_first_layers_tell_the_range(layers, expected):
    assert takes_bytes(first(*layers)) is expected


@pytest.mark.once
def test_nested_models_tell_it_too():
    inner = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Rescaling(1 / 255)]
    )
    assert takes_bytes(first(inner))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, expected",
    [
        ("MobileNetV2", (False, "[-1, 1]")),
        ("EfficientNetB0", (True, None)),
        ("ResNet50", (False, "[0, 255] in the order BGR, less their means")),
        ("ConvNeXtTiny", (True, None)),
    ],
)
def test_applications_tell_it_or_are_asked(name, expected):
    make = getattr(keras.applications, name)
    model = make(weights=None, classes=10, input_shape=(64, 64, 3))
    assert (takes_bytes(model), by_name(model)) == expected


@pytest.mark.parametrize("form", ["arrays", "one-hot", "column", "batches"])
def test_so_many_images_tell(form):
    x, y = random_images(300), np.arange(300) % 5
    given = {
        "arrays": (x, y),
        "one-hot": (x, np.eye(5)[y]),
        "column": (x, y[:, None]),
        "batches": [(x[i : i + 64], y[i : i + 64]) for i in range(0, 300, 64)],
    }[form]
    first, labels = ranges.first(Data(given, axes=x.ndim - 1), 256)
    np.testing.assert_array_equal(first, x[:256])
    np.testing.assert_array_equal(labels, y[:256])


@pytest.mark.parametrize(
    "taken",
    [
        BYTES,
        Pixels(-1.0, 1.0),
        Pixels(0.0, 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        Pixels(0.0, 255.0, (103.9, 116.8, 123.7)),
    ],
)
def test_images_come_back_bit_by_bit(taken):
    from keras_wp._units import Units

    x = pixels.in_levels(random_images(200, shape=(6, 6, 3)))
    raw = taken.of(x)
    units = Units((0.0, 1.0), taken.inputs, raw)
    np.testing.assert_array_equal(units.images(raw), x)


@pytest.mark.parametrize(
    "options, message",
    [
        ((None, (0.0, 1.0)), "--std must be numbers above 0. Received: 0,1"),
        (
            ((1.0, 2.0), (1.0, 2.0, 3.0)),
            "--mean and --std must have as many numbers as there are channels. "
            "Received: 2 and 3",
        ),
    ],
)
def test_wrong_numbers_get_one_sentence(options, message):
    class Args:
        mean, std = options

    with pytest.raises(ValueError) as error:
        pixels.check(Args)
    assert str(error.value) == message
