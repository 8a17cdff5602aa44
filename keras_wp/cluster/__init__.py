"""Evaluation in parts: on workers of a cluster, or in shards, merged."""

from keras_wp.cluster.merge import merge
from keras_wp.cluster.ray import Ray

__all__ = ["Ray", "merge", "pool"]


def pool(cluster, session, view):
    """The `Pool` of workers for an evaluation.

    Args:
        cluster: `"ray"`, or what has a method `pool`, such as a `Ray`.
        session: The evaluation's `Session`.
        view: The units, inputs and output that the model's `View` is made of.

    Raises:
        ValueError: If it is none of these.
    """
    if cluster == "ray":
        cluster = Ray()
    if not hasattr(cluster, "pool"):
        raise ValueError(
            'Argument `cluster` must be None, "ray" or a keras_wp.cluster.Ray. '
            f"Received: cluster={cluster!r}"
        )
    return cluster.pool(session, view)
