"""A part of the data: which one, where its outcomes are, what it records."""

import hashlib
import pathlib

from keras_wp import _noise
from keras_wp.evaluation.data import identities
from keras_wp.reports.shard import Shard


def folder(resume_dir, shard):
    """Where a shard keeps its outcomes: in a folder of its own.

    `resume.Store` looks into all of them, so that an evaluation of all data
    with the same `resume_dir` has what its shards have found.

    Args:
        resume_dir: See `evaluate`.
        shard: `(index, count)`, or None for all data.
    """
    if resume_dir is None or shard is None:
        return resume_dir
    index, count = shard
    return pathlib.Path(resume_dir) / f"shard-{index}-of-{count}"


def record(session):
    """The `Shard` of an evaluation's report, or None if it is of all data.

    Args:
        session: The `Session`.
    """
    data, clean = session.data, session.clean
    if data.shard is None:
        return None
    index, count = data.shard
    first, labels = data.beginning()
    names = identities(_noise.image_digests(data.images(first)), labels)
    return Shard(
        index=index,
        count=count,
        images=data.total,
        at_least=data.counts_only_its_own,
        classes=int(clean.logits.shape[-1]),
        model=session.digest,
        data=hashlib.blake2b(
            " ".join(names).encode(), digest_size=8
        ).hexdigest(),
        randomized=clean.draws is not None,
    )
