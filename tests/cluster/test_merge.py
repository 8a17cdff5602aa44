"""Shards of an evaluation, and one report of them."""

import dataclasses

import keras
import numpy as np
import pytest
from helpers import message_of, mixed_labels, plainly, random_images, randomize

import keras_wp as kwp
from keras_wp.attacks import APGD, PGD, DeepFool, InTurn, Square, adaptive
from keras_wp.evaluation.data import Data
from keras_wp.reports.findings import Finding

pytestmark = pytest.mark.once
# More than a batch of a dataset, and no multiple of the shards.
IMAGES, SHARDS, BATCH = 61, 6, 7
EXACT = (
    *("attacked", "robust", "steps", "zero_gradients", "bad_gradients"),
    *("denied", "predicted", "in_bytes"),
)


@pytest.fixture(scope="module")
def model():
    """Without batch normalization, of which nothing can be proved."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    return randomize(model, scale=0.5)


@pytest.fixture(scope="module")
def data(model):
    x = random_images(IMAGES)
    return x, mixed_labels(model, x)


def attacked(model, data, **options):
    attacks = [
        PGD(eps=0.2, steps=4, norm="l2", random_start=True),
        DeepFool(norm="l2", eps=0.3, steps=5),
    ]
    return plainly(
        model, data, attacks, certify=True, progress=False, **options
    )


@pytest.fixture(scope="module")
def whole(model, data):
    return attacked(model, data)


@pytest.fixture(scope="module")
def shards(model, data):
    return [
        attacked(model, data, shard=(k, SHARDS)) for k in range(1, SHARDS + 1)
    ]


def assert_same(found, expected):
    """All numbers of two reports, except for the time that they took.

    Lengths and pixels up to the rounding of float32, which differs with the
    number of images that are worked on at a time.
    """
    np.testing.assert_array_equal(found.clean_correct, expected.clean_correct)
    assert found.identities == expected.identities
    assert len(found.results) == len(expected.results)
    for one, other in zip(found.results, expected.results, strict=True):
        assert (one.name, one.norm, one.eps) == (
            other.name,
            other.norm,
            other.eps,
        )
        assert one.call == other.call
        np.testing.assert_allclose(one.distance, other.distance, rtol=1e-6)
        for name in EXACT:
            np.testing.assert_array_equal(
                getattr(one, name), getattr(other, name), name
            )
    assert [s.index for s in found.samples] == [
        s.index for s in expected.samples
    ]
    for one, other in zip(found.samples, expected.samples, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.resisted == other.resisted
        for a, b in zip(one.attempts, other.attempts, strict=True):
            assert (a.name, a.predicted) == (b.name, b.predicted)
            np.testing.assert_allclose(a.image, b.image, atol=1e-6)


def test_shards_merged_are_one_run(whole, shards, tmp_path):
    for shard in shards:
        shard.to_json(tmp_path / f"{shard.shard.index}.json")
    merged = kwp.merge([tmp_path])
    assert_same(merged, whole)
    assert merged.findings == whole.findings
    assert merged.environment.pop("merged") == "6 of 6 shards"
    merged.environment["date"] = whole.environment["date"]
    assert merged.environment == whole.environment
    for name in ("prediction", "correct"):
        np.testing.assert_array_equal(
            getattr(merged.certificate, name), getattr(whole.certificate, name)
        )
    for name in ("radius", "rounding"):  # Of logits in other batches.
        np.testing.assert_allclose(
            getattr(merged.certificate, name),
            getattr(whole.certificate, name),
            atol=1e-6,
        )
    assert merged.certificate.constant == whole.certificate.constant
    assert merged.results[0].seconds == pytest.approx(
        sum(shard.results[0].seconds for shard in shards)
    )


def test_a_shard_is_known_by_places(data, shards):
    x, y = data
    assert [len(shard) for shard in shards] == [11] + [10] * 5
    np.testing.assert_array_equal(shards[2].shard.places(3), [2, 8, 14])
    batches = [
        (x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, 61, BATCH)
    ]
    for read in (Data(data, shard=(3, 6)), Data(batches, shard=(3, 6))):
        found = np.concatenate([part for part, _ in read])
        np.testing.assert_array_equal(found, x[2::6])
        assert read.total == IMAGES
        np.testing.assert_array_equal(read.first(), x)


def test_missing_shards_are_named(whole, shards):
    merged = kwp.merge([shards[5], shards[2], shards[0], shards[4]])
    lacking = "shards 2 and 4 of 6 are missing"
    assert merged.environment["missing"] == lacking
    assert f"partial: {lacking}" in str(merged)
    assert f"partial: {lacking}" in merged.to_html()
    kept = np.arange(IMAGES) % SHARDS
    kept = (kept != 1) & (kept != 3)
    np.testing.assert_array_equal(merged.robust(), whole.robust()[kept])
    assert "shard 2 of 6" in str(shards[1])


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "00"}, "the same model, or weights"),
        ({"data": "00"}, "the same images"),
        ({"count": 61, "images": 611}, "the same number of shards"),
    ],
)
def test_shards_of_something_else_are_refused(shards, change, words):
    # Shard 3 of 61 has as many of 611 images.
    other = dataclasses.replace(shards[2].shard, **change)
    second = dataclasses.replace(shards[2], shard=other)
    message = message_of(kwp.merge, [shards[0], second])
    assert words in message and "report 2" in message


def test_other_settings_are_refused(shards, whole):
    first, second = shards[:2]
    for key, value in (("keras", "2"), ("seed", 7), ("adaptive", True)):
        changed = {**second.environment, key: value}
        other = dataclasses.replace(second, environment=changed)
        assert f"the same {key}" in message_of(kwp.merge, [first, other])
    less = dataclasses.replace(second, results=second.results[:1])
    message = message_of(kwp.merge, [first, less])
    assert "the same attacks" in message and "None in report 2" in message
    result = second.results[0]
    longer = dataclasses.replace(result, attack={**result.attack, "steps": 5})
    other = dataclasses.replace(second, results=(longer, *second.results[1:]))
    message = message_of(kwp.merge, [first, other])
    assert "{'steps': 4} in report 1 and {'steps': 5} in report 2" in message
    without = dataclasses.replace(second, certificate=None)
    assert "same certificate" in message_of(kwp.merge, [first, without])
    message = message_of(kwp.merge, [first, second, first])
    assert "shard 1 of 6 in report 1 and in report 3" in message
    assert "report 2, which is none" in message_of(kwp.merge, [first, whole])
    assert "Received: none" in message_of(kwp.merge, [])


def test_the_gravest_finding_of_a_check_is_kept(shards):
    def found(shard, severity, count):
        finding = Finding(severity, f"{count} saw.", {"norm": "l2"}, "noise")
        everywhere = Finding("info", "Everywhere.", {}, "randomized")
        findings = (finding, everywhere)
        return dataclasses.replace(shard, findings=findings)

    parts = [
        found(shards[0], "info", 1),
        found(shards[4], "high", 5),
        found(shards[2], "warning", 3),
    ]
    first, second = (
        f for f in kwp.merge(parts).findings if f.check != "pixels"
    )
    assert first == Finding(
        "high",
        "In shard 5 of 6: 5 saw.",
        {"norm": "l2", "shards": [1, 3, 5]},
        "noise",
    )
    assert second.message == "Everywhere." and "shards" not in second.evidence


def test_a_run_of_all_data_goes_on_from_its_shards(
    model, data, monkeypatch, tmp_path
):
    """And its adaptive attacks are those of a run that had no shards.

    They begin where other images were fooled, of all shards.
    """

    def attack(surrogates, norm, eps, bounds, **options):
        common = {"norm": norm, "eps": eps, "bounds": bounds}
        members = [
            adaptive.FollowingAPGD(loss="margin", steps=1, **common),
            APGD(loss="margin", steps=1, **common),
            Square(steps=5, **common),
        ]
        return InTurn(members=members, name=adaptive.NAME, patience=12)

    monkeypatch.setattr(adaptive, "attack", attack)

    weak = PGD(eps=0.05, steps=1, step_size=0.02)

    def evaluated(**options):
        return kwp.evaluate(
            model, data, weak, audit=False, progress=False, **options
        )

    for k in (1, 2, 3):
        evaluated(shard=(k, 3), resume_dir=tmp_path)
    known = {path: path.read_bytes() for path in tmp_path.glob("*/*.jsonl")}
    found = evaluated(resume_dir=tmp_path)
    assert_same(found, evaluated())
    assert found.shard is None
    (own,) = tmp_path.glob("PGD*.jsonl")
    assert len(own.read_text().splitlines()) == 1  # Nothing is done again.
    assert all(path.read_bytes() == text for path, text in known.items())


@pytest.mark.parametrize("shard", [(0, 4), (5, 4), (1.0, 4), "1/4", (1,), True])
def test_what_is_no_shard_is_refused(model, data, shard):
    message = message_of(plainly, model, data, "fgsm", eps=0.1, shard=shard)
    assert "`shard` must be a pair (k, n)" in message


def test_a_shard_without_images_is_refused(model, data):
    message = message_of(plainly, model, data, "fgsm", eps=0.1, shard=(62, 62))
    assert message.endswith("Received: none in shard 62 of 62")
