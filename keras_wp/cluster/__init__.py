"""Evaluation in parts: on workers of a cluster, or in shards, merged."""

from keras_wp.cluster.merge import merge
from keras_wp.cluster.ray import Ray
from keras_wp.cluster.sharded import in_shards

__all__ = ["Ray", "in_shards", "merge", "of"]


def of(cluster):
    """The cluster that is meant: something with a method `pool`.

    Args:
        cluster: `"ray"`, or a `Ray`.

    Raises:
        ValueError: If it is neither.
    """
    if cluster == "ray":
        cluster = Ray()
    if not hasattr(cluster, "pool"):
        raise ValueError(
            'Argument `cluster` must be None, "ray" or a keras_wp.cluster.Ray. '
            f"Received: cluster={cluster!r}"
        )
    return cluster
