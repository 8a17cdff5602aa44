"""In which order images are attacked: those first that will take longest.

What is begun last keeps few slots busy, and fewer images at a time are less
efficient. So the last ones should be those that take few steps. How far the
clean logits are from the decision boundary tells beforehand, for most attacks.
"""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np

from keras_wp.objectives import adversarial_margin


def hardest_first(images: Iterable, ahead, reach_target) -> Iterator:
    """The same images, in falling order of their clean margin, roughly.

    Of an image and the `ahead` next ones, that with the largest margin comes
    first, so that no more than these are held.

    Args:
        images: The `keras_wp.engine.slots.Image`s; their pixels are copied.
        ahead: How many to read in advance.
        reach_target: Whether an image is attacked until it is classified as its
            target, instead of for any wrong class.
    """
    held = []
    for place, image in enumerate(images):
        label = image.target if reach_target else image.y
        (margin,) = adversarial_margin(
            image.clean_logits[None], np.asarray([label]), reach_target
        )
        # A view would keep the others that were read with it.
        image = image._replace(x=np.array(image.x))
        # The lowest is on top; places tell images with the same margin apart.
        entry = margin, place, image
        if len(held) < ahead:
            heapq.heappush(held, entry)
        else:
            yield heapq.heappushpop(held, entry)[-1]
    while held:
        yield heapq.heappop(held)[-1]
