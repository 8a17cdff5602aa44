"""An evaluation in shards, each read and attacked by one worker.

No image travels: a worker gets a function that reads a shard, and gives back a
report, from which the driver makes one of all.
"""

import dataclasses
from collections.abc import Callable

import keras

from keras_wp.cluster.merge import merged
from keras_wp.cluster.pool import Pool
from keras_wp.cluster.worker import check_versions, made, packed, versions
from keras_wp.inspection.description import weights_digest
from keras_wp.reports.shard import EmptyError

# So many shards for each worker, so that none waits long for the last.
SHARDS = 4


@dataclasses.dataclass(frozen=True)
class Task:
    """What every worker is given at first.

    Attributes:
        model: What `packed` returns, or a function that makes the model.
        evaluate: `keras_wp.evaluate`.
        arguments: Those of the call, by name, except the model and the shard.
        weights: The `weights_digest` of the driver's model, if Keras made it;
            or a list, of each.
        versions: Those of the driver.
    """

    model: object
    evaluate: Callable
    arguments: dict
    weights: str | list | None
    versions: dict


class ShardWorker:
    """One process with a model, which evaluates shards.

    Args:
        task: A `Task`.

    Raises:
        ValueError: If it has other versions or weights than the driver.
    """

    def __init__(self, task):
        check_versions(task.versions)
        self._task = task
        self._model = made(task.model)
        if task.weights not in (None, _weights(self._model)):
            raise ValueError(
                "Every worker must have the weights of the driver's model. "
                "Received: a `make_model` that makes others"
            )

    def ready(self):
        """Whether the worker has begun."""
        return True

    def attack(self, count, shards):
        """The reports of some of `count` shards, by their numbers.

        Those without images have None.
        """
        return [self._report((k, count)) for k in shards]

    def _report(self, shard):
        try:
            return self._task.evaluate(
                self._model, shard=shard, **self._task.arguments
            )
        except EmptyError:
            return None


def in_shards(cluster, evaluate, bars, arguments):
    """The report of an evaluation whose workers read the data.

    Args:
        cluster: What has a method `shard_workers`, such as a `Ray`.
        evaluate: `keras_wp.evaluate`.
        bars: The `Progress`.
        arguments: Those of `evaluate`, by name.

    Raises:
        ValueError: If what is asked for cannot be done in shards.
    """
    arguments = dict(arguments)
    model = arguments.pop("model")
    if arguments["save_adversarial"] is not None:
        raise ValueError(
            "`save_adversarial` needs data that are no function, as workers "
            "that read them keep the images. Received: "
            f"save_adversarial={arguments['save_adversarial']!r}"
        )
    for name in ("cluster", "shard", "progress", "verbose"):
        arguments.pop(name)
    task = Task(
        model=cluster.make_model or packed(model),
        evaluate=evaluate,
        arguments={**arguments, "progress": False},
        weights=_weights(model),
        versions=versions(),
    )
    hands, count = cluster.shard_workers(task)
    pool, found = Pool(hands, 1), []
    try:
        with bars.task("data", count, "shards") as report:
            report(0)
            for part in pool.run(count, range(1, count + 1)):
                found.append(part)
                report(len(found))
    finally:
        pool.close()
    named = [(f"shard {r.shard.index}", r) for r in found if r is not None]
    there = {report.shard.index for _, report in named}
    return merged(named, empty={*range(1, count + 1)} - there)


def _weights(model):
    if isinstance(model, (list, tuple)):
        return [*map(_weights, model)]
    return weights_digest(model) if isinstance(model, keras.Model) else None
