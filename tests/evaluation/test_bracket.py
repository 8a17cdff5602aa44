"""Proved and attacked accuracy side by side, and what if they contradict."""

import dataclasses
import json
import re

import numpy as np
import pytest
from certified import SHAPE, labels_of, small_network
from helpers import message_of, random_images

import keras_wp as kwp
from keras_wp import attacks
from keras_wp.evaluation import bracket
from keras_wp.reports.report import Report

pytestmark = pytest.mark.once


EPS = [0.02, 0.1, 0.6]
NAME = "PGD10-margin-l2"
QUICK = {"adaptive": False, "audit": False, "progress": False}


def pgd(**options):
    settings = {"eps": 0.1, "norm": "l2", "steps": 10, "loss": "margin"}
    return attacks.PGD(**{**settings, **options})


@pytest.fixture(scope="module")
def evaluated():
    model, x = small_network(), random_images(40, SHAPE)
    y = labels_of(model, x)
    y[:5] = (y[:5] + 1) % 4
    given = (model, (x, y), [pgd()])
    report = kwp.evaluate(*given, eps=EPS, certify=True, **QUICK)
    return given, report


def test_the_truth_is_between_what_is_proved_and_what_is_not_broken(evaluated):
    (model, data, _), report = evaluated
    found = kwp.certify(model, data)
    np.testing.assert_allclose(
        report.certificate.radius, found.radius, atol=1e-5
    )
    for eps in EPS:
        proved, unbroken = report.bracket("l2", eps)
        assert proved == found.accuracy(eps)
        assert proved <= unbroken <= report.clean_accuracy
    assert 0 < report.bracket("l2", 0.1)[0] < 1
    assert report.bracket("l2", 0.6)[1] < report.clean_accuracy


def test_attacks_find_the_same_without_the_certificate(evaluated):
    (model, data, chosen), report = evaluated
    alone = kwp.evaluate(model, data, chosen, eps=EPS, **QUICK)
    assert alone.certificate is None
    for eps in EPS:
        np.testing.assert_array_equal(
            report[NAME, eps].robust, alone[NAME, eps].robust
        )
        np.testing.assert_array_equal(
            report.robust("l2", eps), alone.robust("l2", eps)
        )


def test_attacks_leave_out_what_is_proved(evaluated):
    _, report = evaluated
    for eps in EPS:
        result = report[NAME, eps]
        proved = report.certificate.certified(eps)
        np.testing.assert_array_equal(
            result.steps > 0, report.clean_correct & ~proved
        )
        np.testing.assert_array_equal(result.attacked, report.clean_correct)
        assert result.robust[proved].all()


def test_what_attacks_find_the_nearest_is_beyond_the_radius():
    model, x = small_network(), random_images(12, SHAPE)
    report = kwp.evaluate(
        model,
        (x, labels_of(model, x)),
        [attacks.DeepFool(norm="l2")],
        eps=[0.01, 0.5],
        certify=True,
        **QUICK,
    )
    radius = report.certificate.radius
    assert (report.results[-1].distance >= radius * (1 - 1e-5)).all()


def test_an_attack_that_breaks_a_proved_image_is_an_error(monkeypatch):
    """As a layer that stretches more than it says would bring about."""
    model, x = small_network(), random_images(20, SHAPE)
    wrong = type(model.layers[2])
    monkeypatch.setattr(wrong, "lipschitz_constant", lambda self: 0.2)
    given = model, (x, labels_of(model, x)), [pgd(eps=2.0, steps=20)]
    with pytest.raises(RuntimeError) as error:
        kwp.evaluate(*given, certify=True, **QUICK)
    assert re.sub(r"\d+(\.\d+)?", "?", str(error.value)) == (
        "PGD?-margin-l? changed the prediction of image ? by a perturbation of "
        "? in ℓ?, and the certificate excludes all below ?: one of them is "
        "wrong, so neither number is to be used. Please report it."
    )


def test_what_the_check_lets_pass_and_what_not():
    found = kwp.Certificate(
        radius=np.array([1.0, 1.0]),
        prediction=np.zeros(2, int),
        correct=np.ones(2, bool),
        constant=1.0,
        rounding=np.zeros(2),
        pixels=4,
    )

    class Outcomes:
        success = np.array([True, False])
        distance = np.array([1.0, np.inf])

    bracket.check(found, pgd(), Outcomes)
    Outcomes.distance = np.array([0.9999, np.inf])
    with pytest.raises(RuntimeError):
        bracket.check(found, pgd(), Outcomes)
    # In linf, half as far is known.
    bracket.check(found, pgd(norm="linf"), Outcomes)
    Outcomes.distance = np.array([0.49, np.inf])
    with pytest.raises(RuntimeError):
        bracket.check(found, pgd(norm="linf"), Outcomes)


@pytest.mark.once
def test_adaptive_attacks_and_the_audit_take_part():
    model, x = small_network(), random_images(12, SHAPE)
    report = kwp.evaluate(
        model,
        (x, labels_of(model, x)),
        [pgd(eps=EPS[0])],
        certify=True,
        progress=False,
    )
    proved, unbroken = report.bracket("l2", EPS[0])
    assert 0 < proved <= unbroken
    skipped = report.certificate.certified(EPS[0] + 1e-5)
    assert (report["adaptive"].steps[skipped] == 0).all()


def test_reports_show_both_sides(evaluated):
    _, report = evaluated
    line = (
        "ℓ2 ≤ 0.1: the accuracy is between "
        f"{100 * report.bracket('l2', 0.1)[0]:.1f} % (proved) and "
        f"{100 * report.bracket('l2', 0.1)[1]:.1f} % (not broken)."
    )
    assert line in str(report)
    assert line in report.to_markdown()
    page = report.to_html()
    assert line in page
    assert page.count('class="bracket"') == len(EPS)
    assert 'class="line proved"' in page and 'class="band proved"' in page
    solid = [
        float(w) for w in re.findall(r'width="([\d.]+)" height="28" rx', page)
    ]
    np.testing.assert_allclose(
        solid, [640 * report.bracket("l2", eps)[0] for eps in EPS], atol=1e-3
    )
    assert "certify=True" in page
    plain = dataclasses.replace(report, certificate=None)
    assert "proved" not in str(plain)
    assert 'class="bracket"' not in plain.to_html()
    assert message_of(plain.bracket, "l2", 0.1) == (
        "A bracket needs a certificate: evaluate(..., certify=True). "
        "Received: a report without one"
    )


def test_json_keeps_the_certificate(evaluated, tmp_path):
    _, report = evaluated
    report.to_json(tmp_path / "report.json")
    loaded = Report.from_json(tmp_path / "report.json")
    for field in dataclasses.fields(kwp.Certificate):
        np.testing.assert_array_equal(
            getattr(loaded.certificate, field.name),
            getattr(report.certificate, field.name),
        )
    assert loaded.bracket("l2", 0.1) == report.bracket("l2", 0.1)
    values = json.loads((tmp_path / "report.json").read_text())
    del values["certificate"]
    (tmp_path / "earlier.json").write_text(json.dumps(values))
    assert Report.from_json(tmp_path / "earlier.json").certificate is None


def test_what_cannot_be_proved_is_said():
    model, x = small_network(), random_images(4, SHAPE)
    data = x, labels_of(model, x)
    assert message_of(
        kwp.evaluate,
        model,
        data,
        [pgd(norm="linf")],
        certify=True,
        **QUICK,
    ) == (
        "`certify` proves accuracies in l2: give an attack with a budget in "
        "it. Received: budgets in ['linf']"
    )
    scaled = kwp.Inputs(mean=[0.5, 0.5], std=[0.5, 0.5])
    assert message_of(
        kwp.evaluate,
        model,
        ((x - 0.5) / 0.5, data[1]),
        [pgd()],
        inputs=scaled,
        certify=True,
        **QUICK,
    ).startswith(
        "`certify` needs a model that maps the images, in the units of the "
        "attacks, to logits. Received: "
    )
