"""What a history has of the logs of an epoch."""

import math

import pytest

from keras_wp.experiments.training import recorded

pytestmark = pytest.mark.once


PLAIN = {"loss": 2.0, "accuracy": 0.5, "val_accuracy": 0.4}
DEFENSE = {"loss": 2.0, "robust_accuracy": 0.3, "val_clean_accuracy": 0.4}
CURVES = {"robust_accuracy": 0.2, "val_robust_accuracy": 0.1}


@pytest.mark.parametrize(
    "logs, unmeasured, expected",
    [
        (PLAIN, True, PLAIN),
        (PLAIN | CURVES, True, PLAIN),
        (PLAIN | CURVES, False, PLAIN | CURVES),
        (DEFENSE, True, {"accuracy": 0.3, "val_accuracy": 0.4}),
        (
            DEFENSE | CURVES | {"training_robust_accuracy": 0.3},
            False,
            {"accuracy": 0.3, "val_accuracy": 0.4} | CURVES,
        ),
        (
            DEFENSE | CURVES | {"training_robust_accuracy": 0.3},
            True,
            {"accuracy": 0.3, "val_accuracy": 0.4},
        ),
        (
            DEFENSE | {"clean_accuracy": 0.6},
            True,
            {"accuracy": 0.6, "val_accuracy": 0.4},
        ),
    ],
)
def test_names_are_those_of_a_model_alone(logs, unmeasured, expected):
    found = recorded(logs, unmeasured)
    assert expected.items() <= found.items()
    assert ("robust_accuracy" in found) == ("robust_accuracy" in expected)
    assert not any(map(math.isnan, found.values()))
