"""Images of one's own on the command line."""

import argparse

import keras
import numpy as np
import pytest
from commands import PLAINLY, run
from helpers import mixed_labels, random_images, tiny_cnn
from PIL import Image

import keras_wp as kwp
from keras_wp.cli import data, pixels

# The command line is the same on every backend.
pytestmark = pytest.mark.once

PLAIN = ("--attacks", "fgsm", "--eps", "0.05", "--bounds", "0,1", *PLAINLY)


@pytest.fixture
def evaluated(tmp_path, capsys):
    """The report of a model, saved as `model.keras`, on some data."""

    def evaluated(given, *options):
        path = tmp_path / "report.json"
        arguments = ["--data", given, *PLAIN, *options, "--report", path]
        code = run("evaluate", tmp_path / "model.keras", *arguments)
        error = capsys.readouterr().err
        assert (code, error) == (0, ""), error
        return kwp.Report.from_json(path)

    return evaluated


@pytest.fixture
def model(tmp_path):
    model = tiny_cnn()
    model.save(tmp_path / "model.keras")
    return model


@pytest.mark.once
@pytest.mark.parametrize("names", [("x_test", "y_test"), ("images", "labels")])
@pytest.mark.parametrize("form", ["floats", "bytes", "up to 255", "no channel"])
def test_arrays_in_a_file_are_attacked(model, tmp_path, evaluated, names, form):
    levels = np.rint(255 * random_images(20))
    x = (levels / 255).astype(np.float32)
    y = mixed_labels(model, x)
    given = {
        "floats": x,
        "bytes": levels.astype(np.uint8),
        "up to 255": levels.astype(np.float32),
        "no channel": x[..., 0],
    }[form]
    options = ("--bounds", "0,255") if form == "up to 255" else ()
    if options:
        wide = keras.layers.Rescaling(1 / 255)
        keras.Sequential([keras.Input((6, 6, 1)), wide, model]).save(
            tmp_path / "model.keras"
        )
    path = tmp_path / "data.npz"
    np.savez(path, **dict(zip(names, (given, y), strict=True)), other=y)
    report = evaluated(path, *options)
    direct = kwp.evaluate(
        *(model, (x, y), "fgsm", 0.05), adaptive=False, audit=False
    )
    assert report.environment["dataset"] == f"data.npz ({names[0]}), 20 images"
    assert report.identities == direct.identities
    np.testing.assert_array_equal(report["FGSM"].robust, direct["FGSM"].robust)


def write(folder, x, y, names, size=None):
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        if size:
            picture = picture.resize(size)
        picture.save(place / f"{i}.png")


@pytest.fixture
def rgb(tmp_path):
    """A model of color images, images as bytes, labels, and class names."""
    model = tiny_cnn(shape=(6, 6, 3))
    model.save(tmp_path / "model.keras")
    x = np.rint(255 * random_images(30, shape=(6, 6, 3))).astype(np.uint8)
    names = ["ant", "bee", "cat", "dog", "eel"]
    return x, mixed_labels(model, x.astype(np.float32) / 255), names


@pytest.mark.once
def test_folders_of_images_are_attacked(rgb, tmp_path, evaluated):
    x, y, names = rgb
    write(tmp_path / "photos", x, y, names)
    for name in set(names) - {names[label] for label in y}:
        (tmp_path / "photos" / name).mkdir()
    report = evaluated(tmp_path / "photos")
    assert report.environment["dataset"] == "photos, 30 images"
    direct = kwp.evaluate(
        keras.saving.load_model(tmp_path / "model.keras"),
        (x.astype(np.float32) / 255, y),
        *("fgsm", 0.05),
        adaptive=False,
        audit=False,
    )
    known = dict(zip(direct.identities, direct["FGSM"].robust, strict=True))
    found = dict(zip(report.identities, report["FGSM"].robust, strict=True))
    assert found == known


@pytest.mark.once
def test_images_are_resized_as_keras_does(rgb, tmp_path):
    pytest.importorskip("tensorflow")
    x, y, names = rgb
    write(tmp_path / "photos", x, y, names, size=(9, 7))
    classes, files = data._listed(tmp_path / "photos")
    folder = data._stream(files, (6, 6, 3), "photos", classes)
    ((found, labels),) = list(folder)
    reference = keras.utils.image_dataset_from_directory(
        tmp_path / "photos", image_size=(6, 6), shuffle=False, verbose=False
    )
    assert list(classes) == reference.class_names
    order = [str(file) for file, _ in files]
    places = [order.index(path) for path in reference.file_paths]
    ((images, wanted),) = reference  # All 30 are a batch.
    np.testing.assert_allclose(255 * found[places], images, atol=1e-3)
    np.testing.assert_array_equal(labels[places], wanted)


@pytest.mark.once
def test_the_limit_of_a_folder_draws_from_all_classes(rgb, tmp_path):
    x, _, names = rgb
    write(tmp_path / "photos", x, np.arange(30) // 6, names)
    found = data._folder(tmp_path / "photos", 15, (6, 6, 3), 5)
    ((_, labels),) = list(found.data)
    assert len(labels) == 15 and len(set(labels.tolist())) == 5
    assert found.class_names == tuple(names)
    assert found.name == "photos, 15 of 30 images, drawn with seed 0"


@pytest.mark.once
@pytest.mark.parametrize("channels, mode", [(1, "L"), (4, "RGBA")])
def test_folders_have_the_channels_of_the_model(tmp_path, channels, mode):
    (tmp_path / "a").mkdir()
    Image.new(mode, (5, 4)).save(tmp_path / "a" / "0.png")
    names, files = data._listed(tmp_path)
    shape = (None, None, channels)
    ((x, _),) = list(data._stream(files, shape, "photos", names))
    assert x.shape == (1, 4, 5, channels)


def bad(tmp_path):
    np.savez(tmp_path / "other.npz", a=1, b=2)
    (tmp_path / "torn.npz").write_bytes(b"torn")
    (tmp_path / "list.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    return {
        "other.npz": "--data must have the arrays x_test and y_test, x and y, "
        "or images and labels. Received: a, b in 'other.npz'",
        "torn.npz": "--data must be an .npz file as numpy.savez writes it. "
        "Received: 'torn.npz', which is not",
        "no.npz": "--data must be there. Received: 'no.npz', which is not",
        "list.csv": "--data must be the name of a data set, an .npz file or a "
        "folder. Received: 'list.csv', which is another file",
        "no/folder": "--data must be the name of a data set, an .npz file or a "
        "folder. Received: 'no/folder', which is not there",
        "empty": "--data must have a folder for each class, with images of the "
        "type .bmp, .gif, .jpeg, .jpg, .png. Received: 'empty', which has 0 "
        "folders and no image in them",
    }


@pytest.mark.once
def test_what_cannot_be_read_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, message in bad(tmp_path).items():
        with pytest.raises(ValueError) as error:
            data.check(argparse.Namespace(data=given))
        assert str(error.value) == message


@pytest.mark.once
@pytest.mark.parametrize(
    "x, y, received",
    [
        (np.zeros((0, 6, 6, 1)), [], "0 of type float64 and 0 labels"),
        (np.zeros((3, 6, 6, 1)), [0], "3 of type float64 and 1 labels"),
        (np.array(["a.png"]), [0], "1 of type <U5 and 1 labels"),
    ],
)
def test_what_are_no_images_gets_one_sentence(tmp_path, x, y, received):
    np.savez(tmp_path / "data.npz", x=x, y=y)
    with pytest.raises(ValueError) as error:
        data._arrays(tmp_path / "data.npz", None, ())
    assert str(error.value) == (
        "--data must have numbers for images, and as many labels. Received: "
        f"{received} in {str(tmp_path / 'data.npz')!r}"
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "name, is_data_set",
    [
        ("mnist", True),
        ("tfds:imagenet2012_subset/10pct", True),
        ("svhn_cropped", True),
        ("./mnist", False),
    ],
)
def test_data_sets_are_not_mistaken_for_files(
    tmp_path, monkeypatch, name, is_data_set
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist" / "0").mkdir(parents=True)  # Without an image.
    args = argparse.Namespace(data=name)
    if is_data_set:
        data.check(args)
    else:
        with pytest.raises(ValueError, match="a folder for each class"):
            data.check(args)


@pytest.mark.once
def test_too_few_classes_of_a_folder_are_refused(rgb, tmp_path):
    x, _, names = rgb
    write(tmp_path / "photos", x, np.arange(30) % 3, names)
    with pytest.raises(ValueError) as error:
        data._folder(tmp_path / "photos", None, (6, 6, 3), 5)
    assert str(error.value) == (
        "--data must have a folder for each class of the model, which has 5, "
        "as labels are their places in the alphabet. Received: 3 folders in "
        f"{str(tmp_path / 'photos')!r}"
    )


@pytest.mark.parametrize(
    "low, high, bounds, expected",
    [
        (0.0, 1.0, None, (0.0, 1.0)),
        (0.0, 255.0, None, (0.0, 255.0)),
        (-1.0, 1.0, None, (-1.0, 1.0)),
        (0.0, 1.0, (0.0, 255.0), (0.0, 1.0)),
        (-2.0, 3.0, (-4.0, 4.0), (-4.0, 4.0)),
        (-2.0, 3.0, None, None),
        (-2.0, 3.0, (-1.0, 1.0), None),
    ],
)
def test_the_range_of_arrays_is_seen_or_asked_for(low, high, bounds, expected):
    x = np.linspace(low, high, 2 * 9).reshape(2, 3, 3)
    images = data.Images((x, [0, 1]), "x.npz", bounds=None)
    args = argparse.Namespace(bounds=bounds)
    if expected is None:
        with pytest.raises(ValueError, match=r"^The pixels must lie in"):
            pixels.unit(images, args)
        return
    found = pixels.unit(images, args)
    assert found.bounds == expected
    least, most = expected
    wanted = (x - least) / (most - least)
    np.testing.assert_allclose(found.data[0], wanted, atol=1e-6)
