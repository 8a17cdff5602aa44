"""`audit`: what speaks against an accuracy, without a list of attacks."""

import numpy as np

from keras_wp.attacks import PGD
from keras_wp.evaluation.evaluate import evaluate

STEPS = 20


def audit(
    model,
    data,
    eps,
    norm="linf",
    bounds=(0.0, 1.0),
    batch_size=128,
    seed=0,
    progress=True,
    inputs=None,
    output=None,
):
    """Look for reasons why a model may seem more robust than it is.

    It attacks the model with PGD as most papers do (20 steps on the
    cross-entropy), then with attacks that fit it, and audits the outcome:
    `evaluate(model, data, PGD(eps=eps, steps=20), adaptive=True, audit=True)`.
    The findings say what was seen, and by how many points of accuracy it
    matters. That there are none of high severity does not prove a model to be
    robust: it says that these attempts to show the contrary have failed.

    Args:
        model: As for `keras_wp.evaluate`.
        data: As for `keras_wp.evaluate`. Some hundred images suffice.
        eps: Radius of the ball, or a list of them.
        norm: `"linf"` or `"l2"`.
        bounds: Lowest and highest value of a pixel.
        batch_size: How many images a device works on at a time, at most.
        seed: Integer; see `keras_wp.evaluate`.
        progress: Whether to show a progress bar (on a terminal only).
        inputs: As for `keras_wp.evaluate`.
        output: As for `keras_wp.evaluate`.

    Returns:
        A tuple of `Finding`, gravest first. The last tells what was done.

    Raises:
        ValueError: If an argument is not as described.

    Sources: Carlini et al., "On evaluating adversarial robustness" (2019),
    the checklist of section 6; the flags of AutoAttack (Croce and Hein, ICML
    2020); Pintor et al., "Indicators of attack failure: debugging and
    improving optimization of adversarial examples" (NeurIPS 2022).

    Example:

    >>> findings = keras_wp.audit(model, (x_test, y_test), eps=8 / 255)
    >>> for finding in findings:
    ...     print(finding.severity, finding.message)
    """
    budgets = [float(budget) for budget in np.atleast_1d(eps)]
    attack = PGD(eps=max(budgets), steps=STEPS, norm=norm, bounds=bounds)
    report = evaluate(
        model,
        data,
        [attack],
        eps=budgets,
        batch_size=batch_size,
        seed=seed,
        adaptive=True,
        audit=True,
        progress=progress,
        inputs=inputs,
        output=output,
    )
    return report.findings
