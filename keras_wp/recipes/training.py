"""`robustify`: robust training in one call."""

import dataclasses
import warnings
from typing import NamedTuple

import keras

from keras_wp import _checks, attacks, callbacks
from keras_wp.convert import to_logits
from keras_wp.defenses.checks import build
from keras_wp.evaluation import evaluate, request
from keras_wp.inputs import Inputs
from keras_wp.inputs import of as described
from keras_wp.inspection.anatomy import undefended
from keras_wp.inspection.description import part_digest, weights_digest
from keras_wp.recipes.course import Course, Followed, say
from keras_wp.recipes.data import (
    are_arrays,
    batches_of,
    check_units,
    digests,
    first_of,
    named,
    split,
)
from keras_wp.recipes.recipe import BUDGETS, Recipe
from keras_wp.reports.report import Report
from keras_wp.reports.wording import eps_text

# How the best weights are found: enough to see the difference.
_VALIDATION_STEPS = 20


class Robustified(NamedTuple):
    """What `robustify` returns.

    Attributes:
        model: The model with its best weights. It returns logits, and is not
            compiled.
        report: The `Report` of `keras_wp.evaluate` on it.
        history: By name, a list of values by epoch, as of `keras.Model.fit`.
    """

    model: keras.Model
    report: Report
    history: dict


def robustify(
    model,
    data,
    eps,
    norm="linf",
    budget="standard",
    *,
    validation_data=None,
    test_data=None,
    epochs=None,
    batch_size=128,
    steps_per_epoch=None,
    optimizer=None,
    loss=None,
    inputs=None,
    augment=False,
    directory=None,
    seed=0,
    verbose=1,
):
    """Train a model to resist attacks within a budget, and measure it.

    The model is trained in place, from the weights that it has: those of a new
    network, or of one that was trained without attacks and is to be tuned. A
    softmax at its end is left out: then what is returned is another model of
    the same weights, which returns logits. For a robust head in the place of
    an ordinary one, pass `keras_wp.convert.to_robust_head(model)`.

    After each epoch the averaged weights are measured on the validation
    images, as they are and under PGD with 20 steps on the margin. Those with
    the highest robust accuracy are returned.

    Args:
        model: A Keras model that maps images to classes.
        data: `(x, y)` arrays; or a dataset of batches, as `fit` takes it.
        eps: The budget of the attack, above 0: in the units of the images; of
            `inputs.bounds`, if `inputs` are given. For images of whole
            numbers up to 255, an `eps` below 1 is in units of [0, 1].
        norm: `"linf"` or `"l2"`.
        budget: How much work is spent: `"fast"`, one gradient more than plain
            training (N-FGSM); `"standard"`, TRADES against PGD of 10 steps;
            `"strong"`, the same with weight perturbation, for longer; or a
            `keras_wp.recipes.Recipe`.
        validation_data: `(x, y)` to choose the best weights by. Defaults to a
            tenth of the arrays, at most 1,000 images, which are then not
            trained on.
        test_data: `(x, y)` for the report. Defaults to the validation images,
            by which the weights were chosen: that flatters them a little.
        epochs: Number of epochs. Defaults to the recipe's.
        batch_size: Images of a batch, where `data` are arrays.
        steps_per_epoch: Batches of an epoch, where `data` are a dataset that
            does not end, as that of `keras_wp.datasets.mix`.
        optimizer: A Keras optimizer, whose learning rate is then its own.
            Defaults to the recipe's.
        loss: A `keras.losses.Loss` of labels and logits. Defaults to the
            cross-entropy.
        inputs: A `keras_wp.Inputs`, as in `keras_wp.evaluate`.
        augment: Whether to crop and flip images at random, as
            `keras_wp.datasets.batches` does: for photographs as arrays.
        directory: Where to keep the state after each epoch. The same call
            after an interruption continues from there, and after the end
            returns the same. (Of data that are no arrays, other images are
            not noticed.)
        seed: Integer, for which images are held out, and for the order of the
            others. Initial weights are the model's own.
        verbose: 0 for silence, else a line for each epoch.

    Returns:
        `Robustified(model, report, history)`.

    Raises:
        ValueError: If an argument is not as described, if the model and the
            first images do not fit together, or if `directory` is that of
            another call.

    Example:

    >>> model, report, history = keras_wp.robustify(
    ...     model, (x_train, y_train), eps=8 / 255, test_data=(x_test, y_test)
    ... )
    >>> print(report)
    >>> model.save("robust.keras")
    """
    recipe = _recipe(budget, epochs)
    _checks.check_one_of(("linf", "l2"), norm=norm)
    _checks.check_positive(eps=eps)
    _checks.check_at_least(1, batch_size=batch_size)
    inputs = described(inputs)
    train, validation = split(data, validation_data, seed, steps_per_epoch)
    first = first_of("validation_data", validation)
    others = {"validation_data": first}
    if test_data is not None:
        others["test_data"] = first_of("test_data", test_data)
    check_units(train, others)
    ball = {"eps": float(eps), "norm": norm}
    ball["bounds"] = request.bounds_of_names(inputs, first, eps)
    request.check_units([(norm, eps)], ball["bounds"])
    if inputs is None and first.dtype.kind in "iu" and ball["bounds"][1] == 1:
        inputs = Inputs(bounds=(0, 255))
    reported = [
        dataclasses.replace(attacks.get(name), **ball)
        for name in recipe.attacks
    ]
    model, opened = _with_logits(model, first.shape[1:])
    defense = recipe.around(model, ball, inputs)
    defense.compile(
        recipe.made_optimizer() if optimizer is None else optimizer,
        _loss(loss, recipe),
        metrics=["accuracy"],
    )
    # What tells a folder's training from others. Digests take their time.
    parts, weights = {}, None
    if directory is not None:
        weights = weights_digest(model)
        parts = {
            "loss": part_digest(loss),
            "optimizer": part_digest(optimizer),
            "inputs": part_digest(inputs),
            **digests(model, train, validation),
        }
    settings = {
        **dataclasses.asdict(recipe),
        **ball,
        "seed": seed,
        "batch_size": batch_size,
        "steps_per_epoch": steps_per_epoch,
        "augment": augment,
    }
    course = Course(directory, settings, parts, weights)
    if verbose:
        told = f"{norm} within {eps_text(eps)}{opened}{course.told}"
        say(f"{recipe}; {told}")
    if course.finished:
        course.restore(model)
    else:
        if test_data is not None:
            _rehearse(model, test_data, ball, inputs)
        followers = _followers(recipe, course, validation, ball, verbose)
        followers = course.begin(followers)
        if optimizer is None:
            schedule = keras.callbacks.LearningRateScheduler(recipe.rate)
            followers.insert(0, schedule)
        if are_arrays(train):
            batches = batches_of(train, batch_size, seed, augment, course)
        else:
            # Keras warns that it cannot shuffle a `tf.data.Dataset`.
            shuffle = not hasattr(train, "element_spec")
            batches = {"x": train, "shuffle": shuffle}
            batches["steps_per_epoch"] = steps_per_epoch
        defense.fit(
            **batches,
            epochs=recipe.epochs,
            validation_data=validation,
            callbacks=followers,
            verbose=0,
        )
        course.end(model)
    if verbose:
        say(f"attacking with {', '.join(recipe.attacks)}")
    report = evaluate(
        model,
        validation if test_data is None else test_data,
        reported,
        inputs=inputs,
        seed=seed,
        resume_dir=course.resume_dir(),
        verbose=1 if verbose else 0,
    )
    return Robustified(model, report, course.history)


def _recipe(budget, epochs):
    if not isinstance(budget, Recipe):
        if budget not in BUDGETS:
            raise ValueError(
                f"Argument `budget` must be one of {', '.join(BUDGETS)}, or a "
                f"keras_wp.recipes.Recipe. Received: budget={budget!r}"
            )
        budget = BUDGETS[budget]
    if epochs is None:
        return budget
    _checks.check_at_least(1, epochs=epochs)
    return dataclasses.replace(budget, epochs=epochs)


def _with_logits(model, shape):
    """The model without a final softmax, and a word on that; built."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Argument `model` must be a keras.Model. "
            f"Received: {type(model).__name__}"
        )
    model = undefended(model)
    if not model.built:
        build(model, shape)
    if getattr(model, "output_shape", None) == (None, 1):
        raise ValueError(
            "Argument `model` must have an output for each class, also of "
            "two: end it in Dense(2). Received: one output"
        )
    try:
        opened = to_logits(model)
    except ValueError:  # What it returns is looked at before the training.
        opened = model
    return opened, "; softmax removed" if opened is not model else ""


def _rehearse(model, test_data, ball, inputs):
    """Raise a ValueError if the report could not be made."""
    with named("test_data"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The report has them.
        evaluate(
            model,
            test_data,
            attacks.FGSM(**ball),
            inputs=inputs,
            adaptive=False,
            audit=False,
            progress=False,
        )


def _loss(loss, recipe):
    if loss is not None:
        return loss
    if recipe.label_smoothing:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _followers(recipe, course, validation, ball, verbose):
    followers = []
    if recipe.defense == "fast":
        followers.append(callbacks.CatastrophicOverfitting(validation))
    if recipe.averaging:
        followers.append(callbacks.WeightAveraging(recipe.averaging))
    attack = attacks.PGD(steps=_VALIDATION_STEPS, loss="margin", **ball)
    best = callbacks.BestRobust(validation, attack)
    return [*followers, best, Followed(course, best, recipe, bool(verbose))]
