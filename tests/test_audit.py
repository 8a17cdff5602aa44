"""The audit: broken models are seen through, and healthy ones left alone."""

import json

import broken_models
import keras
import numpy as np
import pytest
from broken_models import BROKEN, HEALTHY, audited, high
from helpers import linear_model, random_images, tiny_cnn
from keras import ops

import keras_wp as kwp
from keras_wp.evaluation import findings as kinds

# Each shows another failure; the others, and those made of convolutions, are
# slow tests.
QUICK = ("tanh x30", "logits x1e4", "quantized input", "constant output")


def names(report):
    return {finding.check for finding in report.findings}


def check_broken(name):
    report = audited(BROKEN[name]())
    truth = broken_models.true_accuracy(name)
    assert report.robust_accuracy <= truth + 0.03 or high(report)
    return report


@pytest.mark.parametrize("name", QUICK)
def test_broken_models_are_seen_through(name):
    check_broken(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BROKEN) - set(QUICK)))
def test_more_broken_models_are_seen_through(name):
    check_broken(name)


@pytest.mark.parametrize(
    "name",
    [
        "adversarially trained",
        pytest.param("plainly trained", marks=pytest.mark.slow),
    ],
)
def test_healthy_models_have_no_grave_finding(name):
    report = audited(HEALTHY[name]())
    assert not high(report)
    assert report.findings[-1].check == "extent"


def test_a_saturated_head_is_undone_by_surrogates():
    model = BROKEN["tanh x100"]()
    report = audited(model)
    assert report["PGD20"].robust_accuracy > 0.5
    assert report.robust_accuracy <= broken_models.true_accuracy("tanh x100")
    assert {"zero_gradients", "saturated_units", "adaptive_attack"} <= names(
        report
    )


def test_without_adaptive_attacks_the_audit_says_what_they_would_find():
    report = audited(BROKEN["tanh x100"](), adaptive=False)
    assert report.robust_accuracy > 0.5
    grave = {finding.check for finding in high(report)}
    assert "surrogates" in grave
    evidence = next(f for f in high(report) if f.check == "surrogates").evidence
    json.dumps(evidence)
    assert evidence["fooled"] > 0.5 * evidence["images"]
    assert evidence["robust_accuracy"] == report.robust_accuracy


def test_findings_are_in_the_order_of_their_gravity():
    report = audited(BROKEN["constant output"]())
    order = [kinds.SEVERITIES.index(f.severity) for f in report.findings]
    assert order == sorted(order)
    assert "blind_gradients" in {f.check for f in high(report)}


def test_models_that_return_probabilities_are_found_instead_of_refused():
    model, x = tiny_cnn(), random_images(20)
    y = np.asarray(model(x)).argmax(-1)
    model = keras.Sequential([model, keras.layers.Softmax()])
    attack = kwp.attacks.PGD(eps=0.05, steps=3)
    with pytest.raises(ValueError, match="must return logits, not probabil"):
        kwp.evaluate(model, (x, y), [attack])
    report = kwp.evaluate(model, (x, y), [attack], audit=True)
    assert high(report)[0].check == "probabilities"


def test_randomized_models_are_found_instead_of_warned_of():
    model = keras.Sequential([broken_models.AlwaysNoise(0.01), tiny_cnn()])
    x = random_images(20)
    y = np.asarray(model(x)).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.05, steps=3)
    report = kwp.evaluate(model, (x, y), [attack], audit=True)
    (finding,) = [f for f in report.findings if f.check == "unsteady"]
    assert finding.severity == "high"
    assert finding.evidence["change"] > 0


def test_audit_is_an_evaluation_by_pgd():
    model, x = tiny_cnn(), random_images(30)
    y = np.asarray(model(x)).argmax(-1)
    found = kwp.audit(model, (x, y), eps=0.02)
    attack = kwp.attacks.PGD(eps=0.02, steps=20)
    report = kwp.evaluate(model, (x, y), [attack], adaptive=True, audit=True)
    assert [f.message for f in found] == [f.message for f in report.findings]
    extent = found[-1].evidence["budgets"]
    assert [(e["norm"], e["eps"]) for e in extent] == [("linf", 0.02)]


def test_each_norm_is_audited_where_something_is_left():
    model, x = tiny_cnn(), random_images(30)
    y = np.asarray(model(x)).argmax(-1)
    attacks = [
        kwp.attacks.FGSM(eps=0.02),
        kwp.attacks.FGSM(eps=0.1, norm="l2"),
    ]
    eps = {"linf": [0.001, 0.01, 0.5], "l2": [0.01, 0.1]}
    report = kwp.evaluate(model, (x, y), attacks, eps=eps, audit=True)
    chosen = {}
    for norm, budgets in eps.items():
        left = [e for e in budgets if report.robust(norm, e).mean() >= 0.01]
        chosen[norm] = max(left)
    extent = report.findings[-1].evidence["budgets"]
    assert {e["norm"]: e["eps"] for e in extent} == chosen
    assert chosen["linf"] < 0.5


def test_an_attack_that_does_worse_with_more_is_reported():
    # One step overshoots the strip in which an image is misclassified.
    def strip(x):
        u = ops.reshape(x, (-1, 1))
        wave = 8.0 * ops.cos(2 * np.pi * u)
        return ops.concatenate([0 * wave, wave], axis=-1)

    x = np.full((40, 1, 1, 1), 0.2, np.float32)
    x += np.linspace(0, 0.01, 40, dtype=np.float32).reshape(-1, 1, 1, 1)
    y = np.ones(40, int)
    report = kwp.evaluate(
        strip, (x, y), [kwp.attacks.FGSM(eps=0.1)], eps=[0.1, 0.78], audit=True
    )
    assert report["FGSM", 0.1].robust_accuracy == 0.0
    assert report["FGSM", 0.78].robust_accuracy == 1.0
    (finding,) = [f for f in report.findings if f.check == "accuracy_rises"]
    assert finding.severity == "warning"
    assert finding.evidence["points"] == 100.0


def test_a_budget_is_needed():
    x = random_images(4)
    with pytest.raises(ValueError) as error:
        kwp.evaluate(
            tiny_cnn(),
            (x, np.zeros(4, int)),
            [kwp.attacks.DeepFool()],
            audit=True,
        )
    assert str(error.value) == (
        "`adaptive` and `audit` need a budget: give `eps`. Received: attacks "
        "without one"
    )


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


def test_a_model_that_nothing_fools_linearly_is_left_alone():
    kernel = np.random.default_rng(0).normal(size=(6, 6, 1, 4))
    model, x = linear_model(kernel.astype(np.float32)), random_images(60)
    y = np.asarray(model(x)).argmax(-1)
    attack = kwp.attacks.PGD(eps=0.02, steps=10, loss="margin")
    report = kwp.evaluate(model, (x, y), [attack], audit=True)
    assert report.robust_accuracy > 0
    assert [f.check for f in report.findings] == ["extent"]
