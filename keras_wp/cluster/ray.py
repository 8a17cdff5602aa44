"""Workers that are actors of Ray: on this machine, or on a cluster.

Source: Moritz et al., "Ray: a distributed framework for emerging AI
applications" (OSDI 2018).
"""

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable

import keras

from keras_wp import _backend
from keras_wp._checks import check_at_least
from keras_wp.cluster.pool import Pool, chunk_sizes
from keras_wp.cluster.sharded import SHARDS, ShardWorker
from keras_wp.cluster.worker import Setup, Worker, packed, versions

# So many actors may fail to begin, as where a node dies.
_FAILURES = 10
# How many threads libraries start, which take all cores otherwise.
THREADS = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


@dataclasses.dataclass(frozen=True)
class Ray:
    """Attacks run on actors of Ray: `evaluate(..., cluster=Ray(...))`.

    The driver, which calls `evaluate`, reads the data, passes them through the
    model once, and hands out chunks of images; it runs the audit, too, so it
    should have a device as good as an actor's. An actor that dies gives its
    chunk back. Outcomes are kept as they come, so that with a `resume_dir` a
    driver that is killed goes on where it was.

    Attributes:
        address: That of a cluster, `"auto"` for the one that this machine
            belongs to, or None to use this machine alone.
        workers: How many actors there are; by default one for each GPU of the
            cluster, or for each of its cores, if it has no GPU.
        cpus: How many cores each actor has.
        gpus: How many GPUs each actor has; by default one, if there are any.
        make_model: A function without arguments that makes the model on each
            worker. By default the driver's model is sent as a `.keras` file.
        chunk: How many images an actor is given at a time; by default what it
            works on at a time, four times, and less towards the end.
        shards: Into how many shards data are cut that are a function, which
            actors call; by default four for each actor.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float | None = None
    make_model: Callable | None = None
    chunk: int | None = None
    shards: int | None = None

    def __post_init__(self):
        """Refuses what is no number of workers, images or shards."""
        for name in ("workers", "chunk", "shards"):
            if getattr(self, name) is not None:
                check_at_least(1, **{name: getattr(self, name)})

    def pool(self, session, view):
        """A `Pool` of actors for an evaluation.

        Args:
            session: Its `Session`.
            view: What the model's `View` is made of.
        """
        ray, workers, options = self._begun()
        sizes = self.chunk or functools.partial(
            chunk_sizes,
            workers=workers,
            slots=_backend.preferred_slots(session.batch_size),
        )
        worker = Worker, self._setup(session, view)
        return Pool(Actors(ray, worker, workers, options), sizes)

    def shard_workers(self, task):
        """`Actors` that evaluate shards, and how many shards there are to be.

        Args:
            task: A `sharded.Task`.
        """
        ray, workers, options = self._begun()
        worker = ShardWorker, task
        actors = Actors(ray, worker, workers, options)
        return actors, self.shards or SHARDS * workers

    def _begun(self):
        """Ray, which is running, how many actors, and what each needs."""
        # What one worker refuses is told once, not by each of them.
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        ray = imported()
        if not ray.is_initialized():
            local = {} if self.address else {"include_dashboard": False}
            ray.init(
                address=self.address,
                log_to_driver=False,
                logging_level="ERROR",
                **local,
            )
        return ray, *self._resources(ray.cluster_resources())

    def _setup(self, session, view):
        clean = session.clean
        return Setup(
            model=self.make_model or packed(session.classifier.model),
            view=view,
            images=clean.images,
            noise=clean.noise,
            digest=session.digest,
            versions=versions(),
            batch_size=session.batch_size,
            randomized=clean.draws is not None,
        )

    def _resources(self, there):
        """How many actors, and what each needs, of what is there."""
        gpus = self.gpus
        if gpus is None:
            gpus = min(1.0, there.get("GPU", 0.0))
        of = (there.get("GPU", 0) / gpus) if gpus else there["CPU"] / self.cpus
        workers = self.workers or max(1, math.floor(of))
        threads = str(max(1, int(self.cpus)))
        options = {
            "num_cpus": self.cpus,
            "num_gpus": gpus,
            "runtime_env": {
                "env_vars": {
                    "KERAS_BACKEND": keras.backend.backend(),
                    "TF_CPP_MIN_LOG_LEVEL": os.environ.get(
                        "TF_CPP_MIN_LOG_LEVEL", "3"
                    ),
                    **({} if gpus else dict.fromkeys(THREADS, threads)),
                }
            },
        }
        return workers, options


class Actors:
    """Actors of Ray, as a pool asks for them.

    Args:
        ray: The module.
        worker: The class of the workers, and what each is given at first.
        count: How many there are to be.
        options: What each needs, as `ray.remote` takes it.
    """

    def __init__(self, ray, worker, count, options):
        kind, setup = worker
        self._ray = ray
        self._setup = ray.put(setup)
        self._actor = ray.remote(**options)(kind)
        self.workers, self._coming, self._failures = [], {}, 0
        for _ in range(count):
            self._begin()
        # Others join when the cluster has room for them. Those that have room
        # begin together: chunks are not all for the first.
        begun = time.monotonic()
        while not self.workers:
            self.wait([])
        patience = time.monotonic() - begun
        while (
            self._coming
            and self._ray.wait([*self._coming], timeout=patience)[0]
        ):
            self.wait([])

    def _begin(self):
        actor = self._actor.remote(self._setup)
        self._coming[actor.ready.remote()] = actor

    def submit(self, worker, part, chunk):
        """See `pool.Hands`."""
        return worker.attack.remote(part, chunk)

    def wait(self, tickets):
        """See `pool.Hands`."""
        (ticket, *_), _ = self._ray.wait(
            [*tickets, *self._coming], num_returns=1
        )
        errors = self._ray.exceptions
        lost = errors.RayActorError, errors.ObjectLostError
        if ticket in self._coming:
            actor = self._coming.pop(ticket)
            try:
                self._ray.get(ticket)
            except lost as error:
                self._failed(error)
            else:
                self.workers.append(actor)
            return None, None
        try:
            return ticket, self._ray.get(ticket)
        except lost:
            return ticket, None
        except errors.RayTaskError as error:
            # Without the worker's whole traceback, as Ray tells it.
            raise error.cause from None

    def _failed(self, error):
        """Begin again after an actor that could not, or raise an error."""
        reason = _refusal(error)
        self._failures += 1
        if reason is None and self._failures < _FAILURES:
            self._begin()
            return
        self.close()
        raise ValueError(reason or f"Workers could not begin: {error}")

    def replace(self, worker):
        """See `pool.Hands`."""
        self.workers.remove(worker)
        self._begin()

    def close(self):
        """Let the actors end."""
        for actor in (*self.workers, *self._coming.values()):
            self._ray.kill(actor)
        self.workers, self._coming = [], {}


def imported():
    """The module of Ray.

    Raises:
        ImportError: If it is not installed; it says how to.
    """
    try:
        import ray
    except ImportError:
        raise ImportError(
            "Evaluations on a cluster need Ray: pip install 'keras_wp[ray]'"
        ) from None
    return ray


def _refusal(error):
    """The sentence with which a worker refused to begin, or None."""
    lines = [line for line in str(error).splitlines() if "ValueError: " in line]
    return lines[-1].partition("ValueError: ")[2] if lines else None
