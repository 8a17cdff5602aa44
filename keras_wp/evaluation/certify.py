"""`certify`: radii within which no prediction changes."""

import numpy as np

from keras_wp import _backend, _checks
from keras_wp.certificates.graph import Graph
from keras_wp.certificates.radii import check_arithmetic, radii
from keras_wp.certificates.refusals import RefusedError
from keras_wp.engine import predict
from keras_wp.evaluation.data import Data
from keras_wp.inspection.anatomy import agree
from keras_wp.inspection.classifier import Classifier
from keras_wp.objectives import predicted
from keras_wp.reports.certificate import Certificate

_LOOKED_AT = 8


def certify(model, data, batch_size=128):
    """Prove within which l2 distance no perturbation changes a prediction.

    The promise: no perturbation of an l2 length below `radius` changes the
    prediction of this float32 model. It holds for every float32 image within
    that distance, whether its pixels lie in [0, 1] or not, and whatever attack
    finds it.

    A model that stretches distances by at most `L` up to its features, which
    class weights `w` classify, cannot change its prediction within
    `min_j (z_y - z_j) / (L ||w_y - w_j||)`. One forward pass tells the logits
    `z`. `L` is the product, along the graph of operations, of constants that
    are computed in float64 from the current weights; the distances are, too.
    From each margin is subtracted what float32 rounding can do to it, at
    the image and at any image within the radius. Those bounds hold for
    whatever order sums are taken in, and for each product and sum rounded to
    the nearest float32; those of functions such as `tanh`, which libraries
    approximate, are 32 units of the last place. They do not hold for
    algorithms that convolve by Fourier transforms or Winograd's, which some
    GPUs choose.

    Small radii are proved for any network, but only those built of
    `keras_wp.lipschitz` have useful ones.

    Args:
        model: A Keras model from images `(N, ...)` to logits `(N, K)`, in
            float32. Layers of others may take part if they have the methods
            `lipschitz_constant()`, a bound of their l2 constant, and
            `rounding_error(size, at_zero)`, of the l2 length by which
            float32 takes them from exact arithmetic, for inputs of a length of
            at most `size` (an array) and the length of what they make of
            zeros. The promise then rests on these, too.
        data: As in `keras_wp.evaluate`.
        batch_size: How many images a device works on at a time, at most.

    Returns:
        A `Certificate`.

    Raises:
        ValueError: If an argument is not as described, or if an operation of
            the model has no bound; it names the first and says what to use.

    Source: Tsuzuku, Sato and Sugiyama, "Lipschitz-margin training: scalable
    certification of perturbation invariance for deep neural networks" (NeurIPS
    2018), section 3, with the distance of each pair of classes. Rounding:
    Higham, "Accuracy and stability of numerical algorithms" (2002), section
    3.1.

    Example:

    >>> certificate = keras_wp.certify(model, (x_test, y_test))
    >>> certificate.accuracy(eps=1.58)
    """
    _checks.batch_size(batch_size)
    data, classifier = Data(data), Classifier(model)
    parts, graph, pixels = [], None, 0
    for raw, y in data:
        x = _checks.images(raw)
        first = graph is None
        if first:
            graph, pixels = opened(classifier, x), x[0].size
        logits = predict.logits(classifier, x, batch_size)
        stale = first and not _agree(graph, logits)
        if stale and classifier.refresh(x, logits):
            logits = predict.logits(classifier, x, batch_size)
        if first:
            check_logits(graph, classifier, logits)
        _checks.logits(logits, model)
        y = _checks.labels(y, len(x), logits.shape[-1])
        parts.append((graph.lengths(x), logits, y))
    if not parts:
        raise ValueError("`data` must hold at least one image. Received: none")
    lengths, logits, labels = map(np.concatenate, zip(*parts, strict=True))
    return certificate(graph, lengths, logits, labels, pixels)


def opened(classifier, x):
    """The `Graph` of a model.

    Args:
        classifier: Its `Classifier`.
        x: Some images, `(N, ...)` float32, of which a few are looked at.

    Raises:
        ValueError: If it cannot be certified.
    """
    check_arithmetic(_backend.coarse_products())
    classifier.build(x.shape[1:])
    return Graph(classifier.model, x[:_LOOKED_AT])


def check_logits(graph, classifier, logits):
    """Raise a ValueError if a graph does not compute what its model does.

    Args:
        graph: The `Graph`.
        classifier: The model's `Classifier`.
        logits: `(n, K)`, what the model makes of the images that the graph was
            given, and of more.
    """
    shape = graph.outputs.shape[1:]
    if shape != logits.shape[1:]:
        raise RefusedError(
            "A certificate needs a model that returns logits (N, K), of two "
            "classes at least. Received: outputs of shape "
            f"{('N', *shape)}".replace("'", "")
        )
    if not _agree(graph, logits):
        name = getattr(classifier.model, "name", classifier.model)
        raise ValueError(
            "A certificate needs a model that computes the same each time. "
            f"Received: {name!r}, whose operations, called in turn, give other "
            "logits: is it randomized?"
        )


def _agree(graph, logits):
    found, expected = graph.outputs, logits[: len(graph.outputs)]
    return found.shape == expected.shape and agree(found, expected)


def certificate(graph, lengths, logits, labels, pixels):
    """The `Certificate` of images, from what one forward pass tells.

    Args:
        graph: The model's `Graph`.
        lengths: `(n, 2)`, theirs, as the graph tells.
        logits: `(n, K)`.
        labels: `(n,)`.
        pixels: How many numbers an image consists of.
    """
    found = radii(graph, lengths, logits)
    prediction = predicted(logits)
    return Certificate(
        radius=found.radius,
        prediction=prediction,
        correct=prediction == labels,
        constant=found.constant,
        rounding=found.rounding,
        pixels=int(pixels),
    )
