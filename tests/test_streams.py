"""Folders and sets of TensorFlow Datasets, read as they are needed."""

import numpy as np
import pytest
from helpers import message_of, plainly, random_images, tiny_cnn
from PIL import Image

from keras_wp import datasets
from keras_wp.evaluation.data import Data

pytestmark = pytest.mark.once
NAMES = ("n01", "n02", "n03")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """17 images of 12 by 8 pixels in three folders."""
    path = tmp_path_factory.mktemp("data") / "photos"
    x = np.rint(255 * random_images(17, (8, 12, 3))).astype(np.uint8)
    for i, image in enumerate(x):
        folder = path / NAMES[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    return path, x


def read(data):
    x, y = zip(*data, strict=True)
    return np.concatenate(x), np.concatenate(y)


def test_all_images_come_with_the_labels_of_their_folders(photos):
    path, x = photos
    data = datasets.folder(path, (8, 12))
    found, labels = read(data)
    assert len(data) == 17 and data.class_names == NAMES
    assert data.description == "photos, 17 images"
    levels = np.rint(255 * found)
    np.testing.assert_allclose(255 * found, levels, atol=1e-4)
    places = [np.flatnonzero((x == one).all((1, 2, 3))) for one in levels]
    for place, label in zip(places, labels, strict=True):
        assert place % 3 == label
    assert sorted(int(place[0]) for place in places) == list(range(17))
    assert found.dtype == np.float32 and labels.dtype == np.int32


def test_a_subset_is_drawn_with_its_seed_and_recorded(photos):
    path, _ = photos
    some, same, other = (
        datasets.folder(path, (8, 12), limit=9, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(read(some)[0], read(same)[0])
    assert not np.array_equal(read(some)[0], read(other)[0])
    report = plainly(tiny_cnn((8, 12, 3), 3), some, "fgsm", eps=0.1)
    assert report.environment["dataset"] == (
        "photos, 9 of 17 images, drawn with seed 1"
    )


def test_the_middle_is_cut_out_of_the_shorter_side(photos):
    path, x = photos
    found, _ = read(datasets.folder(path, (6, 6), resize=8))
    wanted = x[:, 1:7, 3:9] / 255
    order = [np.abs(wanted - one).max((1, 2, 3)).argmin() for one in found]
    np.testing.assert_allclose(found, wanted[order], atol=1e-6)
    smaller, _ = read(datasets.folder(path, (4, 4), resize=4))
    assert smaller.shape == (17, 4, 4, 3)


def test_a_shard_reads_no_other_image(photos, monkeypatch):
    path, _ = photos
    data = datasets.folder(path, (8, 12))
    whole, _ = read(data)
    seen, image = [], data._image
    monkeypatch.setattr(
        data, "_image", lambda entry: seen.append(entry) or image(entry)
    )
    shard = Data(data, shard=(2, 5))
    found, _ = read(shard)
    np.testing.assert_array_equal(found, whole[1::5])
    assert len(seen) == len(shard) == 4 and shard.total == 17


def test_labels_are_those_of_the_classes_named(photos):
    path, _ = photos
    names = ["n03", "other", "n02", "n01"]
    _, labels = read(datasets.folder(path, (8, 12), class_names=names))
    assert np.bincount(labels).tolist() == [5, 0, 6, 6]
    told = message_of(datasets.folder, path, (8, 12), class_names=names[1:])
    assert "no 'n03', of which there are images" in told


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    assert "which is none" in message_of(
        datasets.folder, tmp_path / "a", (1, 1)
    )
    told = message_of(datasets.folder, tmp_path, (1, 1))
    assert "which has 0 folders and no image in them" in told


def test_a_set_of_tensorflow_datasets_is_read_as_a_stream(small_cifar):
    folder = small_cifar("cifar10", 10)
    _, (x, y) = datasets.load("cifar10", folder)
    data = datasets.stream("cifar10", (32, 32), data_dir=folder)
    found, labels = read(data)
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(labels, y)
    some = datasets.stream("cifar10", (32, 32), limit=4, data_dir=folder)
    assert some.description == (
        "cifar10, test, 4 of 10 images, drawn with seed 0"
    )
    part, _ = read(Data(some, shard=(1, 2)))
    np.testing.assert_array_equal(part, read(some)[0][::2])
    told = message_of(
        datasets.stream, "cifar10", (32, 32), split="val", data_dir=folder
    )
    assert "it has the splits ['test', 'train']" in told
