"""The call that makes a report again."""

import numpy as np
import pytest
from made_reports import attack_result

from keras_wp import Report
from keras_wp.attacks import AutoAttack
from keras_wp.reports import listing

pytestmark = pytest.mark.once


def test_call_names_options_and_what_earlier_reports_do_not_tell():
    ones = np.ones(3, bool)
    suite = AutoAttack(eps=0.1)
    report = Report(
        ones,
        (
            attack_result("PGD", ones, ones, call=None),
            attack_result("AutoAttack", ones, ones, call=repr(suite)),
            attack_result("adaptive", ones, ones, attack={"attack": "InTurn"}),
        ),
        {"model": "net", "adaptive": True, "audit": True, "seed": 1},
    )
    text = listing.call(report)
    assert "    ...  # 'PGD': {'attack': 'PGD', 'steps'" in text
    assert "    keras_wp.attacks.AutoAttack(eps=0.1)," in text
    assert "InTurn" not in text
    assert "    seed=1,\n)" in text
    assert "load_model(...)  # the file of net\n" in text
    report.environment["adaptive"] = ["linear", "model-teacher"]
    text = listing.call(report)
    assert "    adaptive=[...],  # 'linear, model-teacher'\n" in text
    report.environment.update(adaptive=False, audit=False)
    report.environment.update(dataset="digits.npz", pixels="[0, 1]")
    assert "x, y = ...  # 'digits.npz'; pixels in [0, 1]\n" in (
        listing.call(report)
    )
    text = listing.call(report)
    assert "    seed=1,\n    adaptive=False,\n    audit=False,\n)" in text


def test_call_leaves_each_attack_its_own_budget():
    ones = np.ones(3, bool)
    results = [
        attack_result("PGD", ones, ones, 0.3),
        attack_result("Near", ones, ones, 0.1, minimum_norm=True),
    ]
    text = listing.call(Report(ones, tuple(results), {"model": "net"}))
    assert "    eps=" not in text
