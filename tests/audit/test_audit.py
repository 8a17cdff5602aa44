"""The audit: broken models are seen through, and healthy ones left alone."""

import dataclasses
import functools
import json
import sys
import types

import keras
import numpy as np
import pytest
from bases import digits
from healthy_models import HEALTHY
from helpers import linear_model, plainly, random_images, tiny_cnn
from keras import ops
from masked_models import MASKED, true_accuracy
from masked_noise import AlwaysNoise
from trials import clean, trial_of

import keras_wp as kwp
from keras_wp.audit import budget_checks, gradient_checks, model_checks, run
from keras_wp.inspection.view import View
from keras_wp.reports import findings as kinds

pytestmark = pytest.mark.once


# The others are in `benchmarks/audit_table.py`: each takes a minute or more.
BROKEN = (
    "tanh x3, head, dense",
    "tanh x30, one layer with its Dense",
    "tanh x300, head, dense",
    "tanh x20, first hidden layer, dense",
    "tanh x10, hidden, adversarial",
    "clip x30 after the first convolution",
    "k winners take all",
    "input plateau, eps 0.3",
    "16 levels, input",
    "shattered gradients",
    "logits x1e4",
    "logits x1e-4",
    "probabilities",
    "noise at the input",
    "constant output",
    "only padding",
)
SOUND = ("dense", "dense, adversarial")


def audited(model, eps=0.1, **options):
    """What a user would write who knows of PGD only, with the audit."""
    attack = kwp.attacks.PGD(eps=eps, steps=20)
    options = {"adaptive": True, "audit": True, **options}
    return plainly(model, digits()[1], [attack], **options)


def of_the_model(clean, shares=None):
    """What the checks of the model say, without those of its inside."""
    shares = np.zeros(len(clean.labels)) if shares is None else shares
    classifier = types.SimpleNamespace(view=View())
    session = types.SimpleNamespace(
        clean=clean, shares=shares, classifier=classifier
    )
    checks = [c for c in run.MODEL_CHECKS if c.__name__ != "saturated_units"]
    return [finding for check in checks for finding in check(session)]


@functools.cache
def report_on(name):
    if name in HEALTHY:
        return audited(HEALTHY[name]())
    masked = MASKED[name]()
    return audited(masked.model, masked.eps)


def high(report):
    return [f for f in report.findings if f.severity == "high"]


def checks(findings):
    return {finding.check for finding in findings}


# An audit takes seconds, most of it for compiling.
@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_broken_models_are_seen_through(name):
    report = report_on(name)
    truth = true_accuracy(name)
    assert report.robust_accuracy <= truth + 0.03 or high(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_healthy_models_have_no_grave_finding(name):
    report = report_on(name)
    assert not high(report)
    assert report.findings[-1].check == "extent"


@pytest.mark.slow
def test_a_saturated_head_is_undone_by_surrogates():
    report = report_on("tanh x300, head, dense")
    assert report["PGD20"].robust_accuracy > 0.5
    assert report.robust_accuracy <= 0.1
    found = checks(report.findings)
    assert {"zero_gradients", "saturated_units", "adaptive_attack"} <= found


@pytest.mark.slow
def test_without_adaptive_attacks_the_audit_says_what_they_would_find():
    model = MASKED["tanh x300, head, dense"]().model
    report = audited(model, adaptive=False)
    assert report.robust_accuracy > 0.5
    assert {"surrogates", "blind_gradients"} <= checks(high(report))
    evidence = next(f for f in high(report) if f.check == "surrogates").evidence
    json.dumps(evidence)
    assert evidence["fooled"] > 0.5 * evidence["images"]
    assert evidence["robust_accuracy"] == report.robust_accuracy


def test_findings_are_in_the_order_of_their_gravity():
    given = ["info", "high", "warning", "info", "high"]
    found = [kinds.Finding(s, f"{i}", {}) for i, s in enumerate(given)]
    ordered = kinds.gravest_first(found)
    assert [f.message for f in ordered] == ["1", "4", "2", "0", "3"]


def test_randomized_models_are_found_instead_of_refused():
    model = keras.Sequential([AlwaysNoise(0.1), tiny_cnn()])
    data = random_images(20), np.zeros(20, int)
    found = clean(model, *data, lenient=True)
    (finding,) = of_the_model(found)
    assert (finding.severity, finding.check) == ("info", "randomized")
    assert finding.evidence["change"] > 0
    shares = np.full(20, 0.5) * found.correct
    (finding,) = of_the_model(found, shares)
    assert finding.evidence["undecided"] == found.correct.sum()
    assert not list(of_the_model(clean(tiny_cnn(), *data)))


def sloped(ripple=0.0, frequency=1e4):
    """Two classes by one pixel, with a ripple on the way."""

    def model(x):
        u = ops.reshape(x, (-1, 1)) - 0.5
        u = u + ripple * ops.sin(frequency * u)
        return ops.concatenate([-u, u], axis=-1)

    return model


PIXELS = np.linspace(0.6, 0.9, 40, dtype=np.float32).reshape(-1, 1, 1, 1)


def test_a_ripple_is_told_from_a_slope():
    trial = trial_of(sloped(), PIXELS, 0.1)
    assert not list(gradient_checks.misleading_gradients(trial))
    trial = trial_of(sloped(ripple=0.01), PIXELS, 0.1)
    (finding,) = gradient_checks.misleading_gradients(trial)
    assert (finding.severity, finding.check) == ("high", "misleading_gradients")
    assert finding.evidence["astray"] > 0.6 * finding.evidence["images"]


def test_a_gradient_that_is_not_the_model_s_is_told(rng):
    x = PIXELS[rng.permutation(40)]
    trial = trial_of(sloped(), x, 0.1)
    assert not list(gradient_checks.hidden_gradients(trial))

    def leaking(x):
        return sloped()(ops.stop_gradient(x)) + 1e-6 * sloped()(x)

    (finding,) = gradient_checks.hidden_gradients(trial_of(leaking, x, 0.1))
    assert (finding.severity, finding.check) == ("high", "hidden_gradients")
    assert finding.evidence["astray"] == finding.evidence["images"] == 40


def test_predictions_that_jump_are_told_from_such_as_do_not():
    assert not list(budget_checks.noise(trial_of(sloped(), PIXELS, 0.1)))
    trial = trial_of(sloped(ripple=0.5), PIXELS, 0.1)
    (finding,) = budget_checks.noise(trial)
    assert (finding.severity, finding.check) == ("high", "noise")
    # The same images, but fooled already: the accuracy is not in doubt.
    fooled = trial_of(
        sloped(ripple=0.5), PIXELS, 0.1, robust=np.zeros(40, bool)
    )
    (finding,) = budget_checks.noise(fooled)
    assert finding.severity == "warning"
    assert "predictions jump" in finding.message
    # One that lies next to the boundary says nothing about the others.
    near = np.append(PIXELS[:-1], np.float32(0.5001)).reshape(PIXELS.shape)
    (finding,) = budget_checks.noise(
        trial_of(sloped(), near, 0.1, robust=np.arange(40) < 39)
    )
    assert (finding.severity, finding.evidence["changed"]) == ("info", 1)
    assert "predictions jump" not in finding.message


def test_a_model_that_looks_elsewhere_resists_without_a_bound():
    assert not list(budget_checks.far_beyond(trial_of(sloped(), PIXELS, 0.1)))

    def away(x):
        return sloped()(ops.stop_gradient(x))

    found = list(budget_checks.far_beyond(trial_of(away, PIXELS, 0.1)))
    assert [f.check for f in found] == ["flat_curve", "unbounded"]
    assert {f.severity for f in found} == {"high"}
    assert found[1].evidence["wide_eps"] == 1.0


def test_blindness_counts_where_no_attack_saw_anything():
    trial = trial_of(sloped(), PIXELS, 0.1)
    some = np.arange(40) < 30
    trial.blind = [some, ~some]
    assert not list(gradient_checks.blind_gradients(trial))
    trial.blind = [some, np.ones(40, bool)]
    (finding,) = gradient_checks.blind_gradients(trial)
    assert (finding.severity, finding.check) == ("high", "blind_gradients")
    assert finding.evidence["blind"] == 30
    assert finding.evidence["points"] == 75.0


@pytest.mark.slow
def test_a_trained_network_falls_when_its_head_is_saturated():
    # The row x30 of a saturated Tanh head, with the paper's network and
    # recipe: PGD-40 alone leaves about half of the images.
    keras.utils.set_random_seed(0)
    (x_train, y_train), (x, y) = kwp.datasets.load("mnist5k")
    model = kwp.models.small_cnn((28, 28, 1), 10)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x_train, y_train, batch_size=128, epochs=6, verbose=0)
    head = model.layers[-1]
    saturated = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.Model(model.inputs, head.input),
            keras.layers.Rescaling(30.0),
            head,
        ]
    )
    attack = kwp.attacks.get("pgd40", dataset="mnist")
    report = plainly(saturated, (x[:300], y[:300]), [attack], adaptive=True)
    assert report.clean_accuracy > 0.9
    assert report["PGD40"].robust_accuracy > 0.2
    assert report.robust_accuracy <= 0.02


def test_audit_is_an_adaptive_evaluation_by_pgd(monkeypatch):
    asked = {}

    def evaluate(model, data, attacks, **options):
        asked.update(options, attacks=attacks)
        return types.SimpleNamespace(findings=("found",))

    module = sys.modules[kwp.audit.__module__]
    monkeypatch.setattr(module, "evaluate", evaluate)
    assert kwp.audit(tiny_cnn(), (), eps=0.02, norm="l2") == ("found",)
    (attack,) = asked["attacks"]
    assert attack == kwp.attacks.PGD(eps=0.02, steps=20, norm="l2")
    assert asked["eps"] == [0.02]
    assert asked["adaptive"] and asked["audit"]
    kwp.audit(tiny_cnn(), (), eps=np.float32(0.5))
    assert asked["eps"] == [0.5]


@pytest.mark.once
def test_each_norm_is_audited_where_something_is_left():
    model, x = tiny_cnn(), random_images(30)
    y = np.asarray(model(x)).argmax(-1)
    pgd = kwp.attacks.PGD(eps=0.02, steps=10)
    attacks = [pgd, dataclasses.replace(pgd, norm="l2")]
    eps = {"linf": [0.001, 0.01, 0.5], "l2": [0.001, 0.01]}
    report = plainly(model, (x, y), attacks, eps=eps)
    assert report.robust("linf", 0.5).sum() == 0
    assert report.robust("linf", 0.01).sum() > 0
    assert report.robust("l2", 0.01).sum() > 0
    assert run._budgets(report) == [("l2", 0.01), ("linf", 0.01)]


def test_the_largest_budget_is_audited_where_nothing_is_left():
    report = types.SimpleNamespace(
        budgets=[("l2", 0.5), ("l2", 1.0), ("l2", None)],
        robust=lambda norm, eps: np.zeros(10, bool),
    )
    assert run._budgets(report) == [("l2", 1.0)]


@pytest.mark.parametrize("activation", ["tanh", "gelu", "linear"])
def test_only_a_head_that_levels_off_is_called_saturated(activation):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Rescaling(1000.0),
            keras.layers.Dense(8, activation),
            keras.layers.Dense(5),
        ]
    )
    trial = trial_of(model, random_images(10), 0.1)
    # As the user may ask for, whatever the model.
    trial.surrogates = (kwp.Surrogate(model=tiny_cnn()),)
    found = checks(model_checks.saturated_units(trial))
    assert found == ({"saturated_units"} if activation == "tanh" else set())


def test_an_attack_that_does_worse_with_more_is_reported():
    # One step overshoots the strip in which an image is misclassified.
    def strip(x):
        u = ops.reshape(x, (-1, 1))
        wave = 8.0 * ops.cos(2 * np.pi * u)
        return ops.concatenate([0 * wave, wave], axis=-1)

    x = np.linspace(0.2, 0.21, 40, dtype=np.float32).reshape(-1, 1, 1, 1)
    y = np.ones(40, int)
    attack = kwp.attacks.FGSM(eps=0.1)
    with pytest.warns(UserWarning, match="larger than half of the range"):
        report = plainly(strip, (x, y), [attack], eps=[0.1, 0.78])
    assert report["FGSM", 0.1].robust_accuracy == 0.0
    assert report["FGSM", 0.78].robust_accuracy == 1.0
    trial = types.SimpleNamespace(norm="linf", rows=report.results)
    (finding,) = gradient_checks.accuracy_rises(trial)
    assert (finding.severity, finding.check) == ("warning", "accuracy_rises")
    assert finding.evidence["points"] == 100.0


def test_severities_are_checked():
    with pytest.raises(ValueError) as error:
        kwp.Finding("grave", "So it is.", {})
    assert str(error.value) == (
        "Invalid value for argument `severity`. Expected one of "
        "['high', 'info', 'warning']. Received: severity='grave'"
    )


@pytest.mark.parametrize(
    "share, severity",
    [(0.0, None), (0.009, None), (0.01, "warning"), (0.03, "high")],
)
def test_severity_is_that_of_the_accuracy_in_doubt(share, severity):
    assert kinds.severity_of(share) == severity


@pytest.mark.once
def test_a_model_that_nothing_fools_linearly_is_left_alone():
    kernel = np.random.default_rng(0).normal(size=(6, 6, 1, 4))
    model, x = linear_model(kernel.astype(np.float32)), random_images(60)
    y = np.asarray(model(x)).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.02, steps=10, loss="margin")
    report = plainly(model, (x, y), [attack], audit=True)
    assert report.robust_accuracy > 0
    assert [f.check for f in report.findings] == ["planted", "extent"]
    assert {f.severity for f in report.findings} == {"info"}


class Sealed(keras.layers.Layer):
    """A network that passes no gradient on, and cannot be opened."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_cnn()

    def call(self, inputs):
        if isinstance(inputs, keras.KerasTensor):
            raise TypeError("no symbols, please")
        return self.inner(ops.stop_gradient(inputs)) + 0.0 * ops.sum(inputs)

    def compute_output_shape(self, shape):
        return shape[0], 5


@pytest.mark.once
@pytest.mark.parametrize(
    "model, severities",
    [
        pytest.param(tiny_cnn(), [], id="open"),
        pytest.param(Sealed(), ["high"], id="sealed", marks=pytest.mark.slow),
    ],
)
def test_what_only_a_search_finds_is_told(model, severities):
    x = random_images(30)
    y = ops.convert_to_numpy(model(x)).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.1, steps=5)
    report = plainly(model, (x, y), [attack], adaptive=True, audit=True)
    found = [f for f in report.findings if f.check == "unexplained_gain"]
    assert [f.severity for f in found] == severities
