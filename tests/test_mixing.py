"""Real and generated images in the same batches."""

import itertools
import re
import zipfile

import keras
import numpy as np
import pytest
from helpers import message_of, places

from keras_wp import attacks, datasets
from keras_wp.datasets import generated as files
from keras_wp.defenses import AdversarialTraining

pytestmark = pytest.mark.once


SHAPE = (5, 5, 1)


def real(count=20):
    """Floating-point images of one value each, which is its label / 255."""
    y = np.arange(count)
    x = np.ones((count, *SHAPE), "float32")
    x *= y.reshape(-1, 1, 1, 1).astype("float32") / np.float32(255)
    return x, y


def generated(count=50):
    """Bytes of one value each from 100 on; labels tell it, too."""
    numbers = np.arange(count)
    images = np.ones((count, *SHAPE), "uint8")
    images *= (100 + numbers).reshape(-1, 1, 1, 1).astype("uint8")
    return images, numbers % 20


def write(path, images, labels, save=np.savez):
    save(path, image=images, label=labels)
    return path


def take(dataset, count):
    """The value of each image of the first batches, in bytes."""
    found = []
    for images, labels in itertools.islice(dataset.as_numpy_iterator(), count):
        assert images.dtype == np.float32
        assert labels.dtype == np.int32
        values = np.rint(images[:, 0, 0, 0] * 255).astype(int)
        expected = np.float32(values) / np.float32(255)
        np.testing.assert_array_equal(images[:, 0, 0, 0], expected)
        assert (images == images[:, :1, :1]).all()
        right = np.where(values < 100, values, (values - 100) % 20)
        np.testing.assert_array_equal(labels, right)
        found.append(values)
    return np.array(found)


@pytest.mark.parametrize(
    "share, count", [(0.7, 7), (0.29, 2), (0.0, 0), (1.0, 10), (0.3, 3)]
)
def test_every_batch_has_the_share(share, count):
    data = datasets.mix(real(), generated(), share=share, batch_size=10)
    values = take(data, 30)
    np.testing.assert_array_equal((values >= 100).sum(1), count)
    if 0 < count < 10:  # They have no place of their own in a batch.
        first = (values >= 100)[:, 0].mean()
        assert 0 < first < 1


@pytest.mark.once
def test_an_epoch_has_other_real_images_each():
    values = take(datasets.mix(real(), generated(), 0.5, batch_size=10), 200)
    epochs = [
        np.concatenate(pair)
        for pair in zip(values[::2], values[1::2], strict=True)
    ]
    seen = [frozenset(epoch[epoch < 100]) for epoch in epochs]
    # 10 of 20 images, none of them twice.
    assert {len(images) for images in seen} == {10}
    assert len(set(seen)) > 90
    counts = np.bincount(np.concatenate([[*images] for images in seen]))
    # Each in half of 100 epochs, by more than four deviations from none.
    assert counts.min() > 30
    drawn = np.bincount(values[values >= 100] - 100, minlength=50)
    # 1000 draws from 50, of 20 on average.
    assert drawn.min() > 3
    assert drawn.max() < 45


@pytest.mark.once
def test_without_generated_images_it_is_batches():
    x, y = real()
    alone = datasets.batches(x, y, 10, seed=3).as_numpy_iterator()
    mixed = datasets.mix((x, y), generated(), 0.0, batch_size=10, seed=3)
    for (_, expected), (_, found) in itertools.islice(
        zip(alone, mixed.as_numpy_iterator(), strict=True), 4
    ):
        assert set(expected) == set(found)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_gives_what_its_arrays_give(save, tmp_path):
    path = write(tmp_path / "few.npz", *generated(), save)
    expected = take(datasets.mix(real(), generated(), batch_size=10), 6)
    for given in (path, str(path)):
        found = take(datasets.mix(real(), given, batch_size=10), 6)
        np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected[:, :3], axis=0)) == 6


@pytest.mark.once
@pytest.mark.parametrize("large", [False, True])
def test_images_of_a_file_stay_on_the_disk(large, tmp_path, monkeypatch):
    images, labels = generated()
    path = tmp_path / "few.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("label", labels), ("image", images)):
            # As NumPy writes it, which makes room for sizes beyond 4 GB.
            with archive.open(f"{name}.npy", "w", force_zip64=large) as file:
                np.lib.format.write_array(file, array)
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", _labels_only)
    found, _ = files.read(path, *real())
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, images)


def _labels_only(file, key):
    assert key == "label"
    return np.lib.format.read_array(file.zip.open("label.npy"))


@pytest.mark.once
def test_it_is_taken_up_and_decided_by_the_seed():
    def batches(**given):
        data = datasets.mix(real(), generated(), batch_size=10, **given)
        return take(data, 8)

    whole = batches(seed=1)
    np.testing.assert_array_equal(batches(seed=1), whole)
    rest = batches(seed=1, first_epoch=2)
    np.testing.assert_array_equal(rest[:4], whole[4:])
    assert (batches(seed=2) != whole).any()
    parts = [batches(seed=1, part=part, parts=2) for part in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


@pytest.mark.once
def test_both_kinds_are_augmented(rng):
    x = rng.integers(0, 128, (12, 6, 10, 2), dtype="uint8")
    more = rng.integers(128, 256, (12, 6, 10, 2), dtype="uint8")
    y = np.arange(12)
    data = datasets.mix((x, y), (more, y), 0.5, batch_size=12, augment=True)
    images, labels = next(data.as_numpy_iterator())
    assert images.dtype == np.uint8
    own = images[:, 0, 0, 0] < 128
    assert own.sum() == 6
    sources = np.where(own[:, None, None, None], x[labels], more[labels])
    found = places(sources, images, padding=4)
    assert len(np.unique(found, axis=0)) > 6


def test_a_defense_learns_from_both(tmp_path):
    x, y = real()
    data = datasets.mix(
        (x, y % 2), (generated()[0], generated()[1] % 2), batch_size=10
    )
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    defense = AdversarialTraining(model, attacks.FGSM(eps=0.01))
    defense.compile("sgd")
    defense.fit(data, steps_per_epoch=2, epochs=2, shuffle=False, verbose=0)
    assert int(defense.optimizer.iterations) == 4


IMAGES, LABELS = generated()


@pytest.mark.once
@pytest.mark.parametrize(
    "given, message",
    [
        (
            {"images": IMAGES, "labels": LABELS},
            "A file of generated images must have the arrays 'image' and "
            "'label'. Received: PATH with ['images', 'labels']",
        ),
        (
            {"image": IMAGES},
            "A file of generated images must have the arrays 'image' and "
            "'label'. Received: PATH with ['image']",
        ),
        (
            {"image": IMAGES.transpose(0, 3, 1, 2), "label": LABELS},
            "Generated images must have the shape of the real ones, (M, 5, 5, "
            "1). Received: shape (50, 1, 5, 5)",
        ),
        (
            {"image": IMAGES.astype("float64"), "label": LABELS},
            "Generated images must be uint8, or of the type of the real ones, "
            "float32. Received: dtype float64",
        ),
        (
            {"image": IMAGES, "label": LABELS[1:]},
            "Labels of generated images must be integers, one for each of the "
            "50 images. Received: shape (49,), dtype int64",
        ),
        (
            {"image": IMAGES, "label": np.where(LABELS < 5, -1, LABELS)},
            "Generated images need labels: have a classifier name them. "
            "Received: 15 of 50 with labels below 0",
        ),
        (
            {"image": IMAGES, "label": LABELS + 1},
            "Labels of generated images must be those of the real ones, up to "
            "19. Received: labels up to 20",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(given, message, tmp_path):
    path = tmp_path / "odd.npz"
    np.savez(path, **given)
    found = message_of(datasets.mix, real(), path, batch_size=10)
    assert found == message.replace("PATH", str(path))


@pytest.mark.once
def test_wrong_arguments_are_refused(tmp_path):
    def refused(*given, **arguments):
        return message_of(datasets.mix, *given, batch_size=10, **arguments)

    for share in (1.1, "most"):
        assert refused(real(), generated(), share=share) == (
            "Argument `share` must be a number from 0 to 1. Received: "
            f"share={share!r}"
        )
    assert refused(real(), 3) == (
        "Argument `generated` must be the path of a .npz file, or a pair "
        "(images, labels) of arrays. Received: int"
    )
    x, y = real()
    assert refused((255 * x, y), generated()) == (
        "Real images must have the shape (N, H, W, C), and be uint8 or "
        "floating-point within [0, 1]. Received: shape (20, 5, 5, 1), dtype "
        "float32"
    )
    assert refused((x, np.eye(20)), generated()) == (
        "Labels of real images must be integers of the shape (20,). Received: "
        "shape (20, 20), dtype float64"
    )
    path = tmp_path / "1m.npz"
    with pytest.raises(FileNotFoundError, match=re.escape(str(path))):
        datasets.mix(real(), path, batch_size=10)
    path.write_text("no archive")
    assert refused(real(), path) == (
        f"A file of generated images must be a .npz file. Received: {path}, "
        "which is none"
    )
