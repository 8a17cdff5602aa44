"""Attacks called directly: `attack(model, x, y)`."""

import dataclasses
import warnings

import numpy as np
from keras import ops

from keras_wp import _backend, _checks, _noise
from keras_wp._units import SNAP, Units
from keras_wp.engine import predict
from keras_wp.engine.judge import Judge
from keras_wp.engine.slots import Image
from keras_wp.engine.stream import run
from keras_wp.inputs import of as described
from keras_wp.inspection.anatomy import undefended
from keras_wp.inspection.classifier import Classifier
from keras_wp.inspection.ends import whole_numbers
from keras_wp.inspection.view import View
from keras_wp.objectives import predicted

# So many images are looked at before the work begins.
_LOOKED_AT = 8


def attack_images(attack, model, x, y, inputs=None, output=None):
    """What `attack(model, x, y)` does; see `Attack.__call__`."""
    model, inputs = undefended(model), described(inputs)
    raw = _on_host(x, "x")
    _on_host(y, "y")
    units = Units(attack.bounds, inputs, raw, whole_numbers(model))
    attack = attack.with_bounds(units.bounds)
    eps = getattr(attack, "eps", None)
    if (budget := units.budget(attack.norm, eps)) != eps:
        attack = dataclasses.replace(attack, eps=budget)
    images = units.images(raw)
    classifier = Classifier(model, View(units, inputs, output))
    classifier.settle(images)
    program = predict.forward_pass(classifier, images.shape[1:])
    # No more slots on a device than its share of the images.
    share = -(-len(images) // len(program.devices))
    size = _backend.preferred_slots(share)
    targeted = attack.targeted
    # An attack that examines the clean image first needs no pass of its own
    # to leave misclassified images alone.
    count = len(images)
    shortcut = attack.starts_at_x and not attack.needs_clean_logits
    some = images[:1] if shortcut and not targeted else images
    clean_logits = predict.forward(program, some, size)
    if classifier.refresh(some, clean_logits):
        program = predict.forward_pass(classifier, images.shape[1:])
        clean_logits = predict.forward(program, some, size)
    _checks.logits(clean_logits, model)
    labels = _checks.labels(y, count, clean_logits.shape[-1])
    if len(some) < count:
        clean_logits = np.zeros((count, clean_logits.shape[-1]), np.float32)
        attacked = np.arange(count)
    else:
        hit = predicted(clean_logits) == labels
        attacked = np.flatnonzero(~hit if targeted else hit)
    for part in attack.parts:
        part.check(classifier, images[:_LOOKED_AT], clean_logits.shape[-1])
    digests = _noise.image_digests(images)
    truth = predicted(clean_logits) if targeted else labels
    result = np.array(raw)
    broken = np.zeros(count, bool)
    for part in attack.parts:
        keys = _noise.seeded(digests, 0, part.seed)
        stream = (
            Image(
                index=i,
                x=images[i],
                y=truth[i],
                target=labels[i],
                key=keys[i],
                clean_logits=clean_logits[i],
            )
            for i in attacked
        )
        fooled = []
        for outcome in run(
            part,
            classifier,
            stream,
            batch_size=share,
            reach_target=targeted,
            # Whoever calls PGD wants its last point, adversarial or not.
            examine_last=part.radius is not None
            or part.minimum_norm
            or part is not attack,
        ):
            i = outcome.index
            broken[i] |= outcome.bad_gradients > 0
            # A failed try that may lie outside the ball is of no use.
            if outcome.success or part.radius is None:
                result[i] = _like(raw[i], images[i], outcome.x_adv, units)
            if outcome.success:
                fooled.append(i)
        if fooled and raw.dtype != np.float32:
            # What counts is what is handed out.
            handed = units.images(result[fooled])
            wrong, _ = Judge(classifier).wrong(
                program, handed, labels[fooled], size, claimed=None
            )
            wrong = 1.0 - wrong if targeted else wrong
            fooled = np.asarray(fooled)[wrong > 0.5]
        attacked = np.setdiff1d(attacked, fooled)
    if broken.any():
        warnings.warn(
            f"{attack.label} met gradients that are not finite on "
            f"{int(broken.sum())} of {count} images and took them for zero: "
            "it may miss adversarial images.",
            stacklevel=3,
        )
    if isinstance(x, np.ndarray):
        return result
    return ops.convert_to_tensor(result)


def _on_host(values, name):
    """A tensor's or an array's values as a NumPy array.

    Raises:
        ValueError: If it stands for values that are not known yet.
    """
    try:
        return ops.convert_to_numpy(values)
    except Exception as error:
        if not hasattr(values, "dtype"):
            raise
        raise ValueError(
            "An attack is called outside of compiled functions, such as a "
            "`train_step` or `dataset.map`: to train, use a defense of "
            f"keras_wp.defenses. Received: a symbolic {name}"
        ) from error


def _like(raw, image, x_adv, units):
    """`x_adv` in the units and type of `raw`, and as it is if not moved."""
    moved = units.to_data(x_adv)
    if raw.dtype != moved.dtype:
        origin = raw.astype(np.float64)
        delta = moved.astype(np.float64) - units.to_data(image)
        low, high = (units.to_data(bound) for bound in units.bounds)
        moved = np.clip(origin + delta, low, high)
        whole = np.issubdtype(raw.dtype, np.integer)
        moved = (np.rint(moved) if whole else moved).astype(raw.dtype)
        # A coarse type rounds by more than the ball and the bounds allow.
        wide = moved.astype(np.float64)
        slack = SNAP if whole else 0.0
        outside = np.abs(wide - origin) > np.abs(delta) + slack
        outside |= (wide < low) | (wide > high)
        nearer = wide - np.sign(wide - origin) if whole else None
        if not whole:
            nearer = np.nextafter(moved, raw)
        moved = np.where(outside, nearer, moved).astype(raw.dtype)
    return np.where(x_adv == image, raw, moved)
