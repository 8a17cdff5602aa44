"""Workers without a cluster, which die when they are told to."""

import dataclasses
import functools
import itertools
import pickle

from keras_wp.cluster.pool import Pool, chunk_sizes
from keras_wp.cluster.sharded import ShardWorker
from keras_wp.cluster.worker import Setup, Worker, packed, versions
from keras_wp.inspection.description import digest


class LocalHands:
    """Workers in this process; what they get and return is pickled.

    Args:
        make: Makes a worker.
        count: How many there are.
        deaths: The numbers, from 0, of the chunks with which a worker dies.
        late: Whether others take a while to come.
    """

    def __init__(self, make, count, deaths=(), late=False):
        self._late, self._coming = late, 0
        self._make, self._deaths = make, {*deaths}
        self._numbers = itertools.count()
        self._made = {}
        self.workers = []
        for _ in range(count):
            self._begin()
        self._jobs, self.dead, self.log = {}, set(), []

    def _begin(self):
        name = f"worker {len(self._made)}"
        self._made[name] = self._make()
        self.workers.append(name)

    def submit(self, worker, part, chunk):
        ticket = next(self._numbers)
        self._jobs[ticket] = worker, pickle.dumps((part, chunk))
        self.log.append((worker, len(chunk)))
        return ticket

    def wait(self, tickets):
        if self._coming and not (self._late and tickets):
            self._coming -= 1
            self._begin()
            return None, None
        # The last first: what comes back keeps no order.
        ticket = max(tickets)
        worker, job = self._jobs.pop(ticket)
        if ticket in self._deaths:
            self.dead.add(worker)
        if worker in self.dead:
            return ticket, None
        outcomes = self._made[worker].attack(*pickle.loads(job))
        return ticket, pickle.loads(pickle.dumps(outcomes))

    def replace(self, worker):
        self.workers.remove(worker)
        self._coming += 1

    def close(self):
        self._made.clear()


class Local:
    """A cluster in this process, for `evaluate(..., cluster=Local())`."""

    def __init__(self, workers=2, deaths=(), **changes):
        self._workers, self._deaths = workers, deaths
        self._changes = changes

    def pool(self, session, view):
        setup = Setup(
            model=packed(session.classifier.model),
            view=view,
            images=session.clean.images,
            noise=session.clean.noise,
            digest=digest(session.classifier, session.clean.noise),
            versions=versions(),
            batch_size=session.batch_size,
            randomized=session.clean.draws is not None,
        )
        setup = dataclasses.replace(setup, **self._changes)
        setup = pickle.loads(pickle.dumps(setup))
        hands = LocalHands(lambda: Worker(setup), self._workers, self._deaths)
        self.hands = hands
        sizes = functools.partial(chunk_sizes, workers=4, slots=4)
        return Pool(hands, sizes)

    # Of evaluations in shards.
    make_model = None

    def shard_workers(self, task):
        task = pickle.loads(pickle.dumps(task))
        hands = LocalHands(
            lambda: ShardWorker(task), self._workers, self._deaths
        )
        self.hands = hands
        return hands, 3
