"""`evaluate`: clean accuracy, and accuracy under attacks."""

import dataclasses
import time
import warnings
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

import keras_wp.attacks as kwp_attacks
from keras_wp import _backend, checks, engine, noise
from keras_wp.classifier import Classifier
from keras_wp.evaluation.data import Data, identities
from keras_wp.evaluation.progress import Progress
from keras_wp.evaluation.report import AttackResult, Report, environment
from keras_wp.evaluation.store import Store, fingerprint


def evaluate(
    model,
    data,
    attacks,
    eps=None,
    batch_size=128,
    seed=0,
    resume_dir=None,
    progress=True,
):
    """Measure how robust a model is.

    Every attack is tried on every image that the model classifies rightly.
    An image counts as robust if no attack succeeds: the worst case, image by
    image, not the lowest of the attacks' accuracies.

    Args:
        model: A Keras model, or a differentiable callable, that maps images
            to logits `(N, K)`.
        data: `(x, y)` arrays, or a dataset of `(x, y)` batches that can be
            read more than once, such as a `tf.data.Dataset`; images within
            the attacks' bounds, integer labels. Datasets are streamed.
        attacks: Attacks, or names for `keras_wp.attacks.get`.
        eps: None to run each attack with its own budget; or a number or a
            list of numbers, to run each with these: an accuracy-versus-eps
            curve. If the attacks use several norms, a dictionary from norm
            to such a number or list. An attack that looks for the smallest
            perturbation is run once and judged by the distances it found.
        batch_size: How many images the device works on at a time, at most.
            On a CPU, where smaller batches are faster, fewer are used.
        seed: Integer; with an image's contents it determines the image's
            random numbers. Neither the batch size nor the order of the data
            has any influence on an image's outcome.
        resume_dir: A directory to keep outcomes in as they come about. The
            same call after an interruption goes on from there, and ends with
            the same numbers.
        progress: Whether to show a progress bar (on a terminal only).

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
    attacks = _resolve(attacks)
    checks.batch_size(batch_size)
    budgets = _budgets(attacks, eps)
    data = Data(data)
    classifier = Classifier(model)
    bounds = _common_bounds(attacks)
    with Progress(progress) as bars:
        clean = _clean_pass(classifier, data, bounds, batch_size, bars)
        for attack in attacks:
            checks.classes(attack, clean.logits.shape[-1])
        predictions = clean.logits.argmax(-1)
        header = {
            "model": fingerprint(model, predictions),
            "seed": seed,
            "version": keras.__version__,
        }
        results = []
        for attack, attack_eps in zip(attacks, budgets, strict=True):
            for budget in _separate(attack, attack_eps):
                job = _Job(attack, budget, header, seed, batch_size)
                outcome = job.run(classifier, data, clean, resume_dir, bars)
                results.extend(_judge(attack, budget, outcome, clean))
    _warn_of_bad_gradients(results)
    return Report(
        clean_correct=clean.correct,
        results=tuple(results),
        environment=environment(seed, model),
    )


class _Clean(NamedTuple):
    logits: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    identities: list
    correct: np.ndarray


def _resolve(attacks):
    if isinstance(attacks, (str, kwp_attacks.Attack)):
        attacks = [attacks]
    resolved = [
        kwp_attacks.get(a) if isinstance(a, str) else a for a in attacks
    ]
    if not resolved:
        raise ValueError("`attacks` must name at least one. Received: none")
    seen = {}
    for i, attack in enumerate(resolved):
        if not isinstance(attack, kwp_attacks.Attack):
            raise ValueError(
                "`attacks` must be attacks or names of attacks. Received: "
                f"{attack!r}"
            )
        count = seen[attack.label] = seen.get(attack.label, 0) + 1
        if count > 1:
            name = f"{attack.label} ({count})"
            resolved[i] = dataclasses.replace(attack, name=name)
    return resolved


def _budgets(attacks, eps):
    """For each attack, the list of budgets to run it with."""
    if eps is None:
        return [[getattr(attack, "eps", None)] for attack in attacks]
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
        values = np.unique(np.atleast_1d(values).astype(float))
        if not values.size or not np.isfinite(values).all() or values[0] <= 0:
            raise ValueError(
                "`eps` must consist of finite numbers greater than 0. "
                f"Received: eps={eps[norm]!r}"
            )
        budgets[norm] = [float(value) for value in values]
    return [budgets.get(a.norm, [getattr(a, "eps", None)]) for a in attacks]


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


def _clean_pass(classifier, data, bounds, batch_size, bars):
    """One forward pass over the data, with every check of the input."""
    size = _backend.preferred_slots(batch_size)
    parts = []
    done = 0
    try:
        total = len(data)
    except TypeError:
        total = None
    with bars.task("clean", total) as report:
        for raw, y in data:
            x = checks.images(raw, bounds)
            program = engine.forward_program(classifier, x.shape[1:])
            logits = engine.forward(program, x, size)
            checks.logits(logits, classifier.model)
            if not parts:
                _check_steadiness(program, x[:size], logits[:size], size)
            y = checks.labels(y, len(x), logits.shape[-1])
            parts.append((logits, y, noise.image_digests(x)))
            done += len(x)
            report(done)
    if not parts:
        raise ValueError("`data` must hold at least one image. Received: none")
    logits, labels, digests = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return _Clean(
        logits,
        labels,
        digests,
        identities(digests, labels),
        logits.argmax(-1) == labels,
    )


def _check_steadiness(program, x, logits, size):
    """The model must be a function of each image by itself."""
    scale = np.abs(logits).max() + np.ptp(logits)
    tolerance = 1e-3 * scale
    if np.abs(engine.forward(program, x, size) - logits).max() > tolerance:
        warnings.warn(
            "The model gives different logits for the same images: it is "
            "randomized or in training mode, and a single gradient says "
            "little about it.",
            stacklevel=4,
        )
        return
    alone = engine.forward(program, x[:1], size)
    if len(x) > 1 and np.abs(alone - logits[:1]).max() > tolerance:
        raise ValueError(
            "The model's logits for an image must not depend on the other "
            "images of its batch: is it in training mode? Received: logits "
            f"that differ by {np.abs(alone - logits[:1]).max():.2g} between "
            f"an image alone and in a batch of {len(x)}"
        )


class _Outcomes(NamedTuple):
    """One value for each image of the data set."""

    success: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    zero_gradients: np.ndarray
    bad_gradients: np.ndarray
    seconds: float


class _Job:
    """One attack with one budget (or, at minimum norm, with all)."""

    def __init__(self, attack, budgets, header, seed, batch_size):
        if not attack.minimum_norm and budgets[0] is not None:
            attack = dataclasses.replace(attack, eps=budgets[0])
        self._attack = attack
        self._header = header
        self._seed = seed
        self._batch_size = batch_size
        self._description = attack.label
        if not attack.minimum_norm:
            self._description += f" eps={budgets[0]:.4g}"

    def run(self, classifier, data, clean, resume_dir, bars):
        """Run the attack's parts, each on the survivors of those before."""
        n = len(clean.labels)
        total = _Outcomes(
            np.zeros(n, bool),
            np.full(n, np.inf),
            *(np.zeros(n, np.int64) for _ in range(3)),
            seconds=0.0,
        )
        for part in self._attack.parts:
            config = {**part.config(), "name": None}
            store = Store(
                resume_dir,
                {**self._header, "attack": config},
                self._description.replace("=", "-"),
            )
            alive = clean.correct & ~total.success
            begun = time.perf_counter()
            earlier = max((v[-1] for v in store.outcomes.values()), default=0)
            try:
                for outcome in self._fresh(
                    part, classifier, data, clean, alive, store, bars
                ):
                    seconds = earlier + time.perf_counter() - begun
                    store.add(
                        clean.identities[outcome.index],
                        [
                            int(outcome.success),
                            outcome.distance if outcome.success else None,
                            outcome.steps,
                            outcome.zero_gradients,
                            outcome.bad_gradients,
                            round(seconds, 3),
                        ],
                    )
            finally:
                store.close()
            for i in np.flatnonzero(alive):
                values = store.outcomes[clean.identities[i]]
                total.success[i] = bool(values[0])
                if values[0]:
                    total.distance[i] = values[1]
                total.steps[i] += values[2]
                total.zero_gradients[i] += values[3]
                total.bad_gradients[i] += values[4]
            spent = earlier + time.perf_counter() - begun
            total = total._replace(seconds=total.seconds + spent)
        return total

    def _fresh(self, part, classifier, data, clean, alive, store, bars):
        """Attack the images whose outcome is not known yet."""
        wanted = {
            clean.identities[i]: i
            for i in np.flatnonzero(alive)
            if clean.identities[i] not in store.outcomes
        }
        goal = int(alive.sum())
        fooled = sum(v[0] for v in store.outcomes.values())
        done = goal - len(wanted)
        label = self._description
        if part is not self._attack:
            label = f"{label} {part.label}"
        with bars.task(label, goal) as report:
            report(done)
            for outcome in engine.run(
                part,
                classifier,
                self._stream(part, data, clean, wanted),
                batch_size=self._batch_size,
            ):
                done += 1
                fooled += outcome.success
                report(done, f"{fooled} fooled")
                yield outcome
        if wanted:
            raise ValueError(
                "`data` must hold the same images each time it is read, and "
                f"{len(wanted)} of {len(clean.labels)} were not met again: "
                "take random augmentation out of it"
            )

    def _stream(self, part, data, clean, wanted):
        """The wanted images as they are read, each once."""
        keys = noise.seeded(clean.digests, self._seed, part.seed)
        hidden = clean.logits.copy()
        hidden[np.arange(len(hidden)), clean.labels] = -np.inf
        targets = hidden.argmax(-1)
        for raw, y in data:
            if not wanted:
                return
            x = checks.images(raw, part.bounds)
            labels = np.asarray(y).reshape(-1)
            names = identities(noise.image_digests(x), labels)
            for image, name in zip(x, names, strict=True):
                i = wanted.pop(name, None)
                if i is None:
                    continue
                yield engine.Image(
                    int(i),
                    image,
                    int(clean.labels[i]),
                    int(targets[i]),
                    keys[i],
                    clean.logits[i],
                )


def _judge(attack, budgets, outcomes, clean):
    """The results of an attack, one for each budget."""
    for budget in budgets:
        limit = np.inf if budget is None else budget + checks.TOLERANCE
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
