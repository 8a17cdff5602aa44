"""Evaluation in parts: shards, and one report of all of them."""

from keras_wp.cluster.merge import merge

__all__ = ["merge"]
