"""One engine that runs every attack at the cost of the gradients needed.

A batch of fixed size is a set of slots. Each image advances in a slot by its
own counter; once it is done its outcome is handed out and the slot takes the
next image. The device always works on full batches of one static shape, and
nothing is spent on images already decided. Those that will take longest are
begun first, as far as the next few slots' images show. When no image is left to
take, idle slots are given up (not on JAX, where each new shape would be
compiled). Continuous batching in language-model serving is the same idea.

A model on several devices has slots on each of them, all fed from the one
stream of images and advanced by one call.

An outcome depends on the image, its label, the attack and the seeds only: not
on the images beside it, its slot, the batch size, or the number of devices (but
for the rounding of a pass through the model, which may differ with the batch).
"""

import itertools
import time
from collections.abc import Iterable, Iterator

import numpy as np

from keras_wp import _backend
from keras_wp.engine.judge import Judge
from keras_wp.engine.programs import Programs
from keras_wp.engine.refine import Ending
from keras_wp.engine.schedule import hardest_first
from keras_wp.engine.slots import Image, Outcome, Slots
from keras_wp.inspection.classifier import Classifier

# A model is opened with so many images at hand.
_OPENED = 8
# So many images for each slot are read in advance, and the hardest taken.
_AHEAD = 2
# Seconds between two looks at how far undecided images are.
_WATCHED = 0.5


def run(
    attack,
    model,
    images: Iterable[Image],
    *,
    batch_size=128,
    reach_target=False,
    examine_last=True,
    judge=None,
    watch=None,
) -> Iterator[Outcome]:
    """Attack a stream of images; yield outcomes as they come about.

    Args:
        attack: A `keras_wp.attacks.Attack`.
        model: A Keras model or a callable, or a `Classifier`.
        images: The images, read as slots fall free, and two for each slot in
            advance.
        batch_size: How many images are worked on at a time on each device,
            at most.
        reach_target: See `Problem.reach_target`.
        examine_last: Whether the point where a failing image ends is
            examined. Without it, `success` misses what the last step did.
        watch: Called now and then with the number of images that the work on
            those undecided amounts to.
        judge: A `Judge`, who has the last word on what an attack claims; None
            for one of the model as it is.

    Yields:
        One `Outcome` for each image, in the order in which they are done.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    source = iter(images)
    first = list(itertools.islice(source, _OPENED))
    if not first:
        return
    programs = Programs(
        attack,
        classifier,
        np.stack([image.x for image in first]),
        len(first[0].clean_logits),
        reach_target,
    )
    judge = Judge(classifier) if judge is None else judge
    # Copies of an image take room as images do.
    copies = 1 if attack.surrogate is None else attack.surrogate.copies
    size = max(1, _backend.preferred_slots(batch_size) // copies)
    devices = len(programs.devices)
    width = size * devices
    source = hardest_first(
        itertools.chain(first, source), _AHEAD * width, reach_target
    )
    first = list(itertools.islice(source, width))
    if _backend.DYNAMIC_BATCH:
        size = -(-len(first) // devices)
    slots = Slots(programs, first, size)
    ending = Ending(attack, programs.forward, reach_target, size, judge)
    most = attack.updates * attack.runs(len(first[0].clean_logits))
    seen = time.monotonic()
    while slots.live:
        ready = slots.advance()
        if watch is not None and time.monotonic() - seen > _WATCHED:
            watch(slots.progress(most))
            seen = time.monotonic()
        if not ready:
            continue
        for image, outcome, point in slots.release(ready):
            point = point if examine_last else None
            yield from ending.add(image, outcome, point)
        fresh = list(itertools.islice(source, len(ready)))
        if fresh or (_backend.DYNAMIC_BATCH and slots.live):
            slots.refill(fresh)
    yield from ending.flush()
