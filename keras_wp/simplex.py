"""The geometry of the robust head: a regular simplex of class weights.

Theorem 1 of Xu, Li and Yang, "Improve adversarial robustness via weight
penalization on classification layer": `K` class weights of equal length `s`
in `P` dimensions, `1 < K <= P + 1`, have the largest smallest angle if and
only if they are the vertices of a regular simplex centered at the origin.

Everything here is computed by NumPy in float64. A `kernel` is that of a
`keras.layers.Dense` layer, of shape `(P, K)`: the transpose of the paper's W.
"""

import math
import numbers

import numpy as np
from keras import ops


def gram(num_classes, s):
    """Gram matrix of the optimal class weights, Sigma of (3.7).

    `Sigma[i, j]` is `s**2` where `i == j` and `s**2 / (1 - num_classes)`
    elsewhere.

    Args:
        num_classes: Number of classes K, an integer of at least 2.
        s: Length of a class weight, a positive number.

    Returns:
        A float64 array of shape `(num_classes, num_classes)`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> gram(3, s=2.0)
    array([[ 4., -2., -2.],
           [-2.,  4., -2.],
           [-2., -2.,  4.]])
    """
    validate_num_classes(num_classes)
    validate_s(s)
    sigma = np.full((num_classes, num_classes), s * s / (1 - num_classes))
    np.fill_diagonal(sigma, s * s)
    return sigma


def vertices(num_classes, dim, s):
    """Class weights whose Gram matrix is Sigma, as in Lemma 2.

    The rows are the vertices of a regular simplex. They span the first
    `num_classes - 1` dimensions; the rest is zero.

    Args:
        num_classes: Number of classes K, an integer of at least 2.
        dim: Number of features P, an integer of at least `num_classes - 1`.
        s: Length of a class weight, a positive number.

    Returns:
        A float64 array of shape `(num_classes, dim)`. Its transpose is a
        kernel for a `Dense` layer.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> w = vertices(num_classes=4, dim=8, s=0.1)
    >>> bool(np.allclose(w @ w.T, gram(4, s=0.1)))
    True
    """
    validate_dimensions(num_classes, dim)
    validate_s(s)
    # Columns of a Helmert matrix: an orthonormal basis of the vectors whose
    # entries sum to zero, so that their outer product is I - 11^T / K.
    order = np.arange(1, num_classes)
    basis = np.triu(np.ones((num_classes, num_classes - 1)))
    basis[order, order - 1] = -order
    basis /= np.sqrt(order * (order + 1.0))
    weights = np.zeros((num_classes, dim))
    length = s * math.sqrt(num_classes / (num_classes - 1))
    weights[:, : num_classes - 1] = length * basis
    return weights


def ideal_angle(num_classes):
    """Largest possible smallest angle between class weights, by Theorem 1.

    It is `arccos(1 / (1 - num_classes))`: the value of `min_angle` at the
    optimum of the penalty.

    Args:
        num_classes: Number of classes K, an integer of at least 2.

    Returns:
        The angle in radians, a float in `(pi / 2, pi]`.

    Raises:
        ValueError: If `num_classes` is out of its range.

    Example:

    >>> round(ideal_angle(10), 4)
    1.6821
    """
    validate_num_classes(num_classes)
    return math.acos(1 / (1 - num_classes))


def min_angle(kernel):
    """Smallest angle between two class weights, (3.5) before halving.

    Args:
        kernel: Class weights, of shape `(features, classes)`, with at least
            two classes.

    Returns:
        The angle in radians, a float in `[0, pi]`. It is NaN where a class
        weight is zero, for then it has no direction, or is not finite.

    Raises:
        ValueError: If `kernel` is not of rank 2 or has fewer than 2 classes.

    Example:

    >>> kernel = vertices(num_classes=3, dim=2, s=0.1).T
    >>> round(min_angle(kernel), 4)
    2.0944
    """
    kernel = _to_float64(kernel)
    validate_kernel_rank(kernel.shape)
    validate_num_classes(kernel.shape[1])
    cosines = _unit(kernel.T) @ _unit(kernel.T).T
    first, second = np.triu_indices(len(cosines), k=1)
    return float(np.arccos(np.clip(cosines[first, second], -1, 1)).min())


def feature_angles(features, kernel, labels):
    """Angles between features and the differences of class weights, (3.3).

    `angles[n, j]` is the angle between the features `f` of example `n` and
    `w_i - w_j`, where `i = labels[n]`. The example is classified as `i` if
    and only if all of these angles are under `pi / 2`, and an attack must
    turn `f` by at least `pi / 2 - angles[n, j]` to make it class `j`.

    Args:
        features: What the last `Dense` layer sees, of shape
            `(examples, features)`.
        kernel: Class weights, of shape `(features, classes)`, with at least
            two classes.
        labels: Integers in `[0, classes)`, of shape `(examples,)`.

    Returns:
        Angles in radians, a float64 array of shape `(examples, classes)`. An
        angle that does not exist is NaN: in each row the one at the label
        (take `np.nanmax` for (3.4)), and those of zero features or equal
        class weights.

    Raises:
        ValueError: If shapes do not fit or a label is not a class.

    Example:

    >>> kernel = vertices(num_classes=3, dim=2, s=0.1).T
    >>> angles = feature_angles(kernel.T, kernel, labels=[0, 1, 2])
    >>> np.degrees(angles).round()
    array([[nan, 30., 30.],
           [30., nan, 30.],
           [30., 30., nan]])
    """
    features, kernel = _to_float64(features), _to_float64(kernel)
    labels = np.asarray(ops.convert_to_numpy(labels))
    validate_kernel_rank(kernel.shape)
    dim, num_classes = kernel.shape
    validate_num_classes(num_classes)
    if features.ndim != 2 or features.shape[1] != dim:
        raise ValueError(
            f"`features` must have shape (examples, {dim}) to fit `kernel`. "
            f"Received: features.shape={features.shape}, "
            f"kernel.shape={kernel.shape}"
        )
    if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be integers of shape ({len(features)},) to fit "
            f"`features`. Received: labels.shape={labels.shape}, "
            f"labels.dtype={labels.dtype}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"`labels` must be classes from 0 to {num_classes - 1}. "
            f"Received: labels from {labels.min()} to {labels.max()}"
        )
    weights, directions = kernel.T, _unit(features)
    angles = np.empty((len(features), num_classes))
    for label in np.unique(labels):
        rows = labels == label
        cosines = directions[rows] @ _unit(weights[label] - weights).T
        angles[rows] = np.arccos(np.clip(cosines, -1, 1))
    return angles


def validate_num_classes(num_classes, name="num_classes"):
    """Raises a `ValueError` unless there are two classes or more."""
    if not isinstance(num_classes, numbers.Integral) or num_classes < 2:
        raise ValueError(
            f"`{name}`, the number of classes, must be an integer of at least "
            f"2. Received: {name}={num_classes!r}"
        )


def validate_dimensions(num_classes, dim):
    """Raises a `ValueError` unless `1 < num_classes <= dim + 1`."""
    validate_num_classes(num_classes)
    if not isinstance(dim, numbers.Integral) or dim < num_classes - 1:
        raise ValueError(
            "`dim`, the number of features, must be an integer of at least "
            f"`num_classes - 1`. Received: num_classes={num_classes}, dim={dim}"
        )


def validate_s(s, name="s"):
    """Raises a `ValueError` unless `s` is a positive finite number."""
    if not isinstance(s, numbers.Real) or not 0 < float(s) < math.inf:
        raise ValueError(
            f"`{name}` must be a finite number greater than 0. "
            f"Received: {name}={s!r}"
        )


def validate_kernel_rank(shape):
    """Raises a `ValueError` unless `shape` is `(features, classes)`."""
    if len(shape) != 2:
        raise ValueError(
            "A kernel must be of rank 2, with shape (features, classes). "
            f"Received: shape={tuple(shape)}"
        )


def _to_float64(x):
    return np.asarray(ops.convert_to_numpy(x), dtype="float64")


def _unit(vectors):
    """Scales rows to length 1; rows without a direction become NaN."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    valid = (lengths > 0) & np.isfinite(lengths)
    return vectors / np.where(valid, lengths, np.nan)
