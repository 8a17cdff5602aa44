"""What is made of images that attacks along known gradients miss."""

import numpy as np
import pytest
from helpers import random_images, tiny_cnn
from trials import trial_of

from keras_wp.audit import stronger_attacks
from keras_wp.audit.subject import Subject

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "images, missed, severities, end",
    [
        (40, 0, [], None),
        (40, 2, ["info"], "so few may be chance."),
        (40, 3, ["high"], "attacks that know it may fool more."),
        # Of nine, one is more than a tenth.
        (9, 1, ["high"], "attacks that know it may fool more."),
    ],
)
def test_a_few_that_known_gradients_miss_are_chance(
    monkeypatch, images, missed, severities, end
):
    trial = trial_of(tiny_cnn(), random_images(images), 0.1)
    # All are fooled by adaptive attacks, and most along known gradients.
    trial.adaptive = object()
    monkeypatch.setattr(Subject, "adapted", np.full(images, True))
    trial.run = lambda attack, indices: np.arange(len(indices)) >= missed
    found = list(stronger_attacks.unexplained_gain(trial))
    assert [finding.severity for finding in found] == severities
    for finding in found:
        assert finding.evidence["missed"] == missed
        assert finding.message.endswith(end)
