import dataclasses
import json
from xml.etree import ElementTree

import keras
import numpy as np
import pytest
from helpers import linear_model, message_of, random_images
from scipy import stats

import keras_wp as kwp
from keras_wp.smoothing import SmoothedCertificate, certify

SHAPE = (3, 3, 1)
SIGMA = 0.5


def two_classes(seed=0):
    """A linear classifier of two classes: smoothing it changes nothing."""
    kernel = np.random.default_rng(seed).normal(size=(*SHAPE, 2))
    bias = -0.5 * kernel.reshape(-1, 2).sum(0)
    return linear_model(kernel.astype(np.float32), bias.astype(np.float32))


def margins(model, x):
    """Signed distances from the boundary, from class 0 to class 1."""
    kernel, bias = (w.astype(float) for w in model.layers[-1].get_weights())
    way, off = kernel[:, 1] - kernel[:, 0], bias[1] - bias[0]
    return (x.reshape(len(x), -1) @ way + off) / np.linalg.norm(way)


def test_radius_is_a_lower_bound_of_that_in_closed_form():
    """Of a linear classifier, sigma Phi^-1(p) is the distance itself."""
    model, x = two_classes(), random_images(30, SHAPE)
    distance = margins(model, x)
    y = (distance > 0).astype(int)
    found = certify(model, (x, y), SIGMA, n=2000, alpha=1e-3)
    true = np.abs(distance)
    # Each fails with a probability of 1e-3.
    assert (found.radius <= true).sum() >= 29
    sure = ~found.abstained
    assert sure.sum() > 15 and found.abstained.sum() > 0
    assert (found.radius[~sure] == 0).all()
    np.testing.assert_array_equal(found.prediction[sure], y[sure])
    near = sure & (true < SIGMA)
    # It is not idle: 2,000 draws tell the distance up to about this.
    assert (true - found.radius)[near].max() < 0.08


def test_radius_is_the_formula_of_the_counts():
    model, x = two_classes(), random_images(6, SHAPE)
    found = certify(model, (x, np.zeros(6, int)), SIGMA, n=500, alpha=0.01)
    for radius in found.radius[~found.abstained]:
        low = stats.norm.cdf(radius / SIGMA)
        # Some whole number of hits has this bound.
        bounds = [
            stats.binomtest(k, 500, alternative="greater")
            .proportion_ci(0.99, method="exact")
            .low
            for k in range(251, 501)
        ]
        assert np.abs(np.array(bounds) - low).min() < 1e-9


def test_outcomes_depend_on_the_image_and_the_seed_only():
    model, x = two_classes(), random_images(6, SHAPE)
    y = np.zeros(6, int)
    first = certify(model, (x, y), SIGMA, n=300)
    other = certify(model, (x[::-1], y), SIGMA, n=300, batch_size=5)
    np.testing.assert_array_equal(first.radius, other.radius[::-1])
    again = certify(model, (x, y), SIGMA, n=300, seed=1)
    assert (first.radius != again.radius).any()


def test_interrupted_runs_continue(tmp_path, monkeypatch):
    model, x = two_classes(), random_images(6, SHAPE)
    y = np.zeros(6, int)
    given = {"sigma": SIGMA, "n": 200, "resume_dir": tmp_path}
    certify(model, (x[:4], y[:4]), **given)
    seen = []
    counts = kwp.smoothing._Sampler._counts

    def counted(self, image, rng, count):
        seen.append(count)
        return counts(self, image, rng, count)

    monkeypatch.setattr(kwp.smoothing._Sampler, "_counts", counted)
    found = certify(model, (x, y), **given)
    assert seen == [100, 200] * 2
    fresh = certify(model, (x, y), SIGMA, n=200)
    np.testing.assert_array_equal(found.radius, fresh.radius)
    message = message_of(certify, two_classes(1), (x, y), **given)
    assert message.startswith(
        "`resume_dir` holds an evaluation with another model"
    )


def test_any_model_is_taken():
    inputs = keras.Input(SHAPE)
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(inputs))
    outputs = keras.layers.Dense(3, activation="softmax")(x)
    found = certify(
        keras.Model(inputs, outputs),
        (random_images(3, SHAPE), np.zeros(3, int)),
        SIGMA,
        n=50,
    )
    assert len(found) == 3


def test_accuracy_and_text():
    found = SmoothedCertificate(
        radius=np.array([0.5, 0.0, 1.0, 0.2]),
        prediction=np.array([0, -1, 2, 1]),
        labels=np.array([0, 0, 2, 3]),
        sigma=0.5,
        alpha=0.001,
        n=100,
    )
    assert [found.accuracy(eps) for eps in (0, 0.4, 0.5, 1.0)] == [
        0.5,
        0.5,
        0.25,
        0.0,
    ]
    assert found.counts == [(0, 2), (0.25, 2), (0.5, 1), (0.75, 1)]
    note = (
        "This is about the smoothed classifier, which predicts the class that "
        "the model returns most often under Gaussian noise of deviation 0.5, "
        "not about the model: attacks on the model do not bound it. Each "
        "radius holds with probability 0.999; it rests on 100 noisy images."
    )
    caption = (
        "4 images, smoothed with sigma 0.5; share in % with its 95 % interval"
    )
    assert str(found).splitlines() == [
        caption,
        "",
        "                         of the images",
        "--------------------------------------",
        "right                 50.0 (15.0-85.0)",
        "certified at l2 0.25  50.0 (15.0-85.0)",
        "certified at l2 0.5    25.0 (4.6-69.9)",
        "certified at l2 0.75   25.0 (4.6-69.9)",
        "--------------------------------------",
        "abstained              25.0 (4.6-69.9)",
        "",
        note,
    ]
    assert "| abstained | 25.0 (4.6-69.9) |" in found.to_markdown()
    assert note in found.to_markdown()


@pytest.mark.once
def test_forms_of_a_smoothed_certificate(tmp_path):
    found = SmoothedCertificate(
        radius=np.array([0.5, 0.0]),
        prediction=np.array([0, -1]),
        labels=np.array([0, 1]),
        sigma=0.5,
        alpha=0.001,
        n=100,
    )
    page = found.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    cells = ElementTree.fromstring(
        page[page.index("<table") : page.index("</table>") + 8]
    )
    texts = [
        ["".join(cell.itertext()).strip() for cell in row]
        for row in cells.iter("tr")
    ]
    assert [row[:2] for row in texts[1:]] == [
        ["right", "50.0 %9.5–90.5 %"],
        ["ℓ2 ≤ 0.25", "50.0 %9.5–90.5 %"],
        ["abstained", "50.0 %9.5–90.5 %"],
    ]
    assert "2 images · 1 abstention<" in page
    assert "not about the model: attacks on the model do not bound it" in page
    told = json.loads(found.to_json(tmp_path / "found.json"))
    assert told == json.loads((tmp_path / "found.json").read_text())
    assert told["abstentions"] == 1 and told["radius"] == [0.5, 0.0]
    assert [(c["eps"], c["accuracy"]) for c in told["certified"]] == [
        (0.0, 0.5),
        (0.25, 0.5),
    ]
    # Nothing is known of one that abstained from all.
    none = dataclasses.replace(
        found, prediction=np.array([-1, -1]), radius=np.zeros(2)
    )
    assert "2 abstentions" in none.to_html() and len(none.counts) == 1


@pytest.mark.parametrize(
    "given, told",
    [
        (
            {"sigma": 0},
            "Argument `sigma` must be a finite number greater than 0. "
            "Received: sigma=0",
        ),
        (
            {"n": 0},
            "Argument `n` must be an integer of at least 1. Received: n=0",
        ),
        (
            {"alpha": 1.0},
            "Argument `alpha` must be a number in (0, 1). Received: alpha=1.0",
        ),
    ],
)
def test_wrong_arguments_are_refused(given, told):
    data = random_images(2, SHAPE), np.zeros(2, int)
    given = {"sigma": SIGMA, **given}
    assert message_of(certify, two_classes(), data, **given) == told
