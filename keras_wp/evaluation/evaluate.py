"""`evaluate`: clean accuracy, and accuracy under attacks."""

import dataclasses
import warnings
from collections.abc import Mapping

import keras
import numpy as np

import keras_wp.attacks as kwp_attacks
from keras_wp import checks, norms
from keras_wp._version import __version__
from keras_wp.classifier import Classifier
from keras_wp.evaluation import archive
from keras_wp.evaluation.clean import clean_pass
from keras_wp.evaluation.data import Data
from keras_wp.evaluation.environment import environment
from keras_wp.evaluation.geometry import head_geometry
from keras_wp.evaluation.jobs import Job
from keras_wp.evaluation.keeper import Keeper
from keras_wp.evaluation.progress import Progress
from keras_wp.evaluation.report import Report
from keras_wp.evaluation.results import AttackResult
from keras_wp.evaluation.samples import collect
from keras_wp.evaluation.store import fingerprint


def evaluate(
    model,
    data,
    attacks,
    eps=None,
    batch_size=128,
    seed=0,
    resume_dir=None,
    progress=True,
    save_adversarial=None,
):
    """Measure how robust a model is.

    Every attack is tried on every image that the model classifies rightly.
    An image counts as robust if no attack succeeds: the worst case, image by
    image, not the lowest of the attacks' accuracies.

    Args:
        model: A Keras model, or a differentiable callable, that maps images
            to logits `(N, K)`. One whose variables lie on several devices
            (made in the scope of a `tf.distribute.MirroredStrategy`, or under
            `keras.distribution.DataParallel` on JAX) is attacked on all of
            them; so is a callable within such a scope.
        data: `(x, y)` arrays, or a dataset of `(x, y)` batches that can be
            read more than once, such as a `tf.data.Dataset`; images within
            the attacks' bounds, integer labels. Datasets are streamed.
        attacks: Attacks, or names as in `keras_wp.attacks.get` (`eps` must be
            given then). A targeted attack aims at the likeliest wrong class,
            and counts as a success with any misclassification.
        eps: None to run each attack with its own budget; or a number or a
            list of numbers, to run each with these: an accuracy-versus-eps
            curve. If the attacks use several norms, a dictionary from norm
            to such a number or list. An attack that looks for the smallest
            perturbation is run once and judged by the distances it found.
        batch_size: How many images a device works on at a time, at most.
            On a CPU, where smaller batches are faster, fewer are used.
        seed: Integer; with an image's contents it determines the image's
            random numbers. Neither the batch size nor the order of the data
            has any influence on an image's outcome.
        resume_dir: A directory to keep outcomes in as they come about. The
            same call after an interruption goes on from there, and ends with
            the same numbers.
        progress: Whether to show a progress bar (on a terminal only).
        save_adversarial: The path of an `.npz` file for every adversarial
            image, or None. It can be checked without this package: `x` and
            `y` are the data, `x_adv_0`, `x_adv_1`, ... what each attack made
            of it (the image itself where it failed), and `attacks` is a JSON
            text that says which is which.

    Returns:
        A `Report`.

    Raises:
        ValueError: If an argument is not as described, in particular if the
            model returns probabilities, depends on the other images of a
            batch (as in training mode), or has weights that are not finite.

    Example:

    >>> report = keras_wp.evaluate(
    ...     model,
    ...     (x_test, y_test),
    ...     attacks=[keras_wp.attacks.PGD(eps=8 / 255, steps=20)],
    ... )
    >>> print(report)
    """
    attacks = _resolve(attacks, eps)
    checks.batch_size(batch_size)
    if save_adversarial is not None:
        archive.check_path(save_adversarial)
    budgets = _budgets(attacks, eps)
    data = Data(data)
    classifier = Classifier(model)
    bounds = _common_bounds(attacks)
    with Progress(progress) as bars:
        clean = clean_pass(classifier, data, bounds, batch_size, bars)
        for attack in attacks:
            checks.classes(attack, clean.logits.shape[-1])
        predictions = clean.logits.argmax(-1)
        header = {
            "model": [fingerprint(model, predictions), *clean.probe],
            "seed": int(seed),
            "version": [__version__, keras.__version__],
        }
        everything = save_adversarial is not None
        kept = []
        with Keeper(
            data, clean, bounds, len(attacks), everything, resume_dir
        ) as keeper:
            for attack, attack_eps in zip(attacks, budgets, strict=True):
                for budget in _separate(attack, attack_eps):
                    job = Job(attack, budget, header, seed, batch_size)
                    pictures = keeper.pictures(job.attack)
                    outcome = job.run(
                        classifier, data, clean, resume_dir, bars, pictures
                    )
                    judged = list(_judge(attack, budget, outcome, clean))
                    kept.append((judged, pictures))
            samples = collect(keeper, kept, classifier, batch_size)
            if everything:
                archive.save(save_adversarial, keeper, kept)
    results = [result for judged, _ in kept for result in judged]
    _warn_of_bad_gradients(results)
    return Report(
        clean_correct=clean.correct,
        results=tuple(results),
        environment=environment(int(seed), model),
        identities=tuple(clean.identities),
        samples=samples,
        geometry=head_geometry(model),
    )


def _resolve(attacks, eps):
    if isinstance(attacks, (str, kwp_attacks.Attack)):
        attacks = [attacks]
    named = [a for a in attacks if isinstance(a, str)]
    if named and eps is None:
        raise ValueError(
            "`eps` must be given for attacks by name, whose budgets depend on "
            f"the data set. Received: eps=None for {named}"
        )
    resolved = [_by_name(a, eps) if isinstance(a, str) else a for a in attacks]
    if not resolved:
        raise ValueError("`attacks` must name at least one. Received: none")
    labels = set()
    for i, attack in enumerate(resolved):
        if not isinstance(attack, kwp_attacks.Attack):
            raise ValueError(
                "`attacks` must be attacks or names of attacks. Received: "
                f"{attack!r}"
            )
        name, count = attack.label, 1
        while name in labels:
            count += 1
            name = f"{attack.label} ({count})"
        labels.add(name)
        if count > 1:
            resolved[i] = dataclasses.replace(attack, name=name)
    return resolved


def _by_name(name, eps):
    attack = kwp_attacks.get(name)
    if isinstance(eps, Mapping) and attack.norm not in eps:
        raise ValueError(
            "`eps` must hold a budget in the norm of each attack by name. "
            f"Received: eps={eps!r} for {name!r}, whose norm is "
            f"{attack.norm!r}"
        )
    return attack


def _budgets(attacks, eps):
    """For each attack, the list of budgets to run it with."""
    if eps is None:
        return [[_own_budget(attack)] for attack in attacks]
    if not isinstance(eps, Mapping):
        used = sorted({attack.norm for attack in attacks})
        if len(used) > 1:
            raise ValueError(
                "`eps` must be a dictionary from norm to budget when the "
                f"attacks use several norms. Received: eps={eps!r} for the "
                f"norms {used}"
            )
        eps = {used[0]: eps}
    budgets = {}
    for norm, values in eps.items():
        norms.get(norm)  # A misspelt norm would leave attacks as they are.
        values = np.unique(np.atleast_1d(values).astype(float))
        if not values.size or not np.isfinite(values).all() or values[0] <= 0:
            raise ValueError(
                "`eps` must consist of finite numbers greater than 0. "
                f"Received: eps={eps[norm]!r}"
            )
        budgets[norm] = [float(value) for value in values]
    return [budgets.get(a.norm, [_own_budget(a)]) for a in attacks]


def _own_budget(attack):
    eps = getattr(attack, "eps", None)
    return None if eps is None else float(eps)


def _separate(attack, budgets):
    """The budgets that need a run of their own."""
    if attack.minimum_norm:
        return [budgets]
    return [[budget] for budget in budgets]


def _common_bounds(attacks):
    bounds = {attack.bounds for attack in attacks}
    if len(bounds) > 1:
        raise ValueError(
            f"The attacks must agree on `bounds`. Received: {sorted(bounds)}"
        )
    return bounds.pop()


def _judge(attack, budgets, outcomes, clean):
    """The results of an attack, one for each budget."""
    for budget in budgets:
        limit = np.inf
        if budget is not None:
            limit = budget + checks.tolerance(budget, attack.bounds)
        hit = outcomes.success & (outcomes.distance <= limit)
        yield AttackResult(
            name=attack.label,
            norm=attack.norm,
            eps=budget,
            attack=attack.config(),
            minimum_norm=attack.minimum_norm,
            attacked=clean.correct,
            robust=clean.correct & ~hit,
            distance=outcomes.distance,
            steps=outcomes.steps,
            zero_gradients=outcomes.zero_gradients,
            bad_gradients=outcomes.bad_gradients,
            seconds=outcomes.seconds,
        )


def _warn_of_bad_gradients(results):
    for result in results:
        bad = int((result.bad_gradients > 0).sum())
        if bad:
            warnings.warn(
                f"{result.name} met gradients that are not finite on {bad} of "
                f"{int(result.attacked.sum())} images and took them for "
                "zero: its accuracy may be too high.",
                stacklevel=3,
            )
