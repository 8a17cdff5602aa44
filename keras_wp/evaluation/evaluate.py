"""`evaluate`: clean accuracy, and accuracy under attacks."""

import contextlib
import dataclasses

from keras_wp import _checks
from keras_wp import cluster as clusters
from keras_wp._checks import check_at_least
from keras_wp._units import Units
from keras_wp.attacks import adaptive as adapting
from keras_wp.audit import model_checks
from keras_wp.audit.run import audit as audited
from keras_wp.evaluation import bracket, ranges, request
from keras_wp.evaluation.clean import clean_pass
from keras_wp.evaluation.data import Data
from keras_wp.evaluation.images import Keeper
from keras_wp.evaluation.progress import Progress, level
from keras_wp.evaluation.runner import Session, warn_of_bad_gradients
from keras_wp.evaluation.save_adversarial import check_path, save
from keras_wp.evaluation.shards import folder
from keras_wp.inputs import of as described
from keras_wp.inspection.anatomy import undefended
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.ends import whole_numbers
from keras_wp.inspection.view import View
from keras_wp.reports.findings import gravest_first
from keras_wp.reports.shard import check as check_shard


def evaluate(
    model,
    data,
    attacks,
    eps=None,
    batch_size=128,
    seed=0,
    adaptive=True,
    audit=True,
    resume_dir=None,
    progress=True,
    save_adversarial=None,
    draws=None,
    inputs=None,
    output=None,
    verbose=None,
    certify=False,
    shard=None,
    cluster=None,
):
    """Measure how robust a model is.

    Every attack is tried on every image that the model classifies correctly.
    An image counts as robust if no attack succeeds: the worst case, image by
    image, not the lowest of the attacks' accuracies. What an attack claims to
    have found counts only if the model itself, called afresh on exactly that
    image, misclassifies it.

    Args:
        model: A Keras model, or a differentiable callable, that maps images
            to logits or probabilities `(N, K)`; or a list of them, whose
            probabilities are averaged. One whose variables lie on several
            devices (made in the scope of a `tf.distribute.MirroredStrategy`,
            or under `keras.distribution.DataParallel` on JAX) is attacked on
            all of them; so is a callable within such a scope. Of a defense,
            the model inside.
        data: `(x, y)` arrays, or a dataset of `(x, y)` batches that can be
            read more than once, such as a `tf.data.Dataset`; images within
            the attacks' bounds, integer labels. Datasets are streamed. Or a
            function `data(k, n)` that returns such data, or a generator of
            batches, of shard k of n (see `shard`), as `dataset.shard(n,
            k - 1)` does, or cut by hand: with `cluster`, each worker reads
            its shards, and no image passes through this process.
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
        adaptive: Whether attacks that fit the model are tried on the images
            which resist those asked for, within each of their budgets. They
            are the result `"adaptive"`, and part of the worst case: `APGD`
            with surrogate gradients for whatever in the model loses
            gradients, at any depth; with its own gradient; on the margins of
            the likeliest wrong classes; with gradients averaged over noise;
            from points found for other images; and `Square`. Each is given
            up once it fools none of a growing number of images. A
            `keras_wp.Surrogate`, or a list of them, is tried before these.
        audit: Whether to look for reasons why the accuracies may be too good,
            on a few of the images: `report.findings`. Models whose logits
            depend on the other images of a batch are then found, instead of
            refused. It and `adaptive` need a budget, and are left out where
            no attack has one.
        resume_dir: A directory to keep outcomes in as they come about. The
            same call after an interruption continues from there, and ends with
            the same numbers.
        progress: Whether to show a progress bar (on a terminal or in a
            notebook only).
        save_adversarial: The path of an `.npz` file for every adversarial
            image, or None. It can be checked without this package: `x` and
            `y` are the data, `x_adv_0`, `x_adv_1`, ... what each attack made
            of it (the image itself where it failed), `attacked_0`, ... which
            images it was tried on, and `attacks` is a JSON text that says
            which is which.
        draws: For a model that is randomized, how many draws of it a
            gradient is the mean of. Defaults to a number from 4 to 32, by the
            size of the noise. Whether an image is classified correctly, clean
            or under attack, is always decided by a majority of 32 fresh
            draws.
        inputs: A `keras_wp.Inputs`: what the numbers in the images mean, if
            they are no pixels within the attacks' bounds, and what a model's
            other inputs are given. Images of whole numbers, such as uint8,
            tell it by their type.
        output: Which output of several are the classes, by name or place.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each
            attack, as in a log; by default what `progress` says.
        certify: Whether to prove, too, on how many images no perturbation
            within a budget in l2 changes the prediction, as
            `keras_wp.certify` does: `report.bracket(norm, eps)`. Attacks
            leave out what is proved.
        shard: `(k, n)`, such as `(3, 16)`, to evaluate the third of 16 parts
            of the data alone: the images whose place, counted from 0, leaves
            the remainder k - 1 when divided by n. `keras_wp.merge` makes one
            report of all. Attacks asked for find the same in a shard as in
            all data; `adaptive` and `audit` decide by the images of the shard
            alone. Outcomes are kept in a folder of `resume_dir` for each
            shard; an evaluation without `shard` finds them there, and ends
            with the numbers that it has by itself, adaptive attacks and audit
            included.
        cluster: `"ray"`, or a `keras_wp.cluster.Ray`, to run attacks on
            several GPUs or machines; None to run them here.

    Returns:
        A `Report`.

    Raises:
        ValueError: If an argument is not as described, in particular if the
            model has weights that are not finite; without `audit`, if its
            logits depend on the other images of a batch (as in training
            mode); or if `certify` is asked for, and no attack has a budget
            in l2, or an operation of the model has no bound.
        RuntimeError: If an attack breaks an image that is proved to resist it.

    Example:

    >>> report = keras_wp.evaluate(
    ...     model,
    ...     (x_test, y_test),
    ...     attacks=[keras_wp.attacks.PGD(eps=8 / 255, steps=20)],
    ... )
    >>> print(report)
    """
    model, inputs = undefended(model), described(inputs)
    asked = dict(locals())
    shown = level(progress, verbose)
    if cluster is not None:
        cluster = clusters.of(cluster)
    _checks.batch_size(batch_size)
    if draws is not None:
        check_at_least(1, draws=draws)
    if save_adversarial is not None:
        check_path(save_adversarial)
    if shard is not None:
        shard = check_shard(shard)
    image = _checks.only(model, "inputs")
    axes = None if image is None else len(image.shape) - 1
    data = Data(data, axes, output, shard)
    if cluster is not None and shard is None and data.counts_only_its_own:
        # Looked at before there are workers, but for what images tell.
        request.budgets(request.resolve(attacks, eps), eps)
        with Progress(shown) as bars:
            return clusters.in_shards(cluster, evaluate, bars, asked)
    raw = data.first()
    bounds = request.bounds_of_names(inputs, raw, eps)
    attacks = request.resolve(attacks, eps, bounds)
    units = Units(
        request.common_bounds(attacks), inputs, raw, whole_numbers(model)
    )
    attacks = [attack.with_bounds(units.bounds) for attack in attacks]
    data.units, bounds = units, units.bounds
    budgets = [
        [units.budget(attack.norm, own) for own in several]
        for attack, several in zip(
            attacks, request.budgets(attacks, eps), strict=True
        )
    ]
    own = adapting.asked(adaptive)
    radii = request.radii(attacks, budgets)
    if not radii:
        adaptive = audit = False  # They need a budget.
    classifier = Classifier(model, View(units, inputs, output))
    request.check_units(radii, bounds)
    resume_dir = folder(resume_dir, shard)
    with Progress(shown) as bars, contextlib.ExitStack() as ending:
        clean = clean_pass(
            classifier, data, batch_size, bars, lenient=bool(audit)
        )
        classes = clean.logits.shape[-1]
        _checks.warn_of_sigmoids(clean.logits)
        for attack in attacks:
            for part in attack.parts:
                part.check(classifier, clean.images, classes)
        everything = save_adversarial is not None
        if clean.draws is not None:
            clean = clean._replace(draws=draws or clean.draws)
            attacks = [adapting.expected(a, clean.draws) for a in attacks]
        keeper = Keeper(
            data,
            clean,
            len(attacks),
            everything=everything,
            donors=bool(adaptive or shard),
            directory=resume_dir,
        )
        ending.enter_context(keeper)
        notes = (
            *units.notes,
            *classifier.view.notes,
            *request.replaced_losses(attacks, classes),
        )
        session = Session(
            assumed="; ".join(notes),
            model=model,
            classifier=classifier,
            data=data,
            clean=clean,
            keeper=keeper,
            seed=int(seed),
            batch_size=batch_size,
            resume_dir=resume_dir,
            bars=bars,
        )
        if cluster is not None:
            session.pool = cluster.pool(session, (units, inputs, output))
            ending.callback(session.pool.close)
        if certify:
            session.certificate = bracket.certificate_of(session, radii)
        for attack, attack_eps in zip(attacks, budgets, strict=True):
            for budget in request.separate(attack, attack_eps):
                session.run(attack, budget, clean.correct)
        surrogates, told = own, {}
        if adaptive or audit:
            opened = classifier.open(clean.images)
            surrogates += adapting.fitting(opened)
            told = {"inside": adapting.told(opened, surrogates)}
        if adaptive:
            before = session.report()
            for norm, radius in radii:
                attack = adapting.attack(
                    surrogates,
                    norm,
                    radius,
                    bounds,
                    draws=clean.draws,
                    closed=bool(opened.why),
                )
                session.run(attack, [radius], before.robust(norm, radius))
        report = session.report(
            adaptive=[s.label for s in own] or bool(adaptive),
            audit=bool(audit),
            pictures=True,
            **told,
        )
        findings = [
            *model_checks.chance(clean.correct, classes),
            *model_checks.pixels(model, units, inputs is not None),
            *model_checks.short_steps(report.results),
        ]
        if clean.draws is None:
            if inputs is None:
                findings += ranges.findings(session, raw, output)
            findings += model_checks.denied(report.results)
        if everything:
            save(save_adversarial, keeper, session.kept, units)
        if audit:
            with bars.task("audit", None):
                findings += audited(
                    session, report, attacks, surrogates, bounds
                )
    warn_of_bad_gradients(report.results)
    return dataclasses.replace(report, findings=gravest_first(findings))
