"""One evaluation under way: attacks run, one after another, and reported."""

import dataclasses
import functools
import warnings

import keras
import numpy as np

from keras_wp import _checks
from keras_wp._version import __version__
from keras_wp.engine.judge import FRESH_DRAWS, Judge
from keras_wp.evaluation import bracket, fingerprint, resume, shards
from keras_wp.evaluation.environment import environment
from keras_wp.evaluation.images import collect
from keras_wp.evaluation.jobs import Job
from keras_wp.inspection.geometry import head_geometry
from keras_wp.reports.report import Report
from keras_wp.reports.results import AttackResult


@dataclasses.dataclass
class Session:
    """What all attacks of an evaluation share, and what they have found.

    Attributes:
        model: The model, as it was given.
        classifier: Its `Classifier`.
        data: The `Data`.
        clean: Its `Clean` pass.
        keeper: The `Keeper` of images.
        seed: The seed.
        batch_size: How many images a device works on at a time, at most.
        resume_dir: See `evaluate`.
        bars: The `Progress`.
        assumed: What was taken for granted of the model and the data.
        certificate: The `Certificate` of the images, or None.
        kept: For each run, its `AttackResult`s and `Pictures`.
        blind: For each run that follows gradients: norm, budgets, and
            `(n,)` bool, on which images it could not.
        shares: `(n,)`, the largest share of wrong answers of the model at a
            point that an attack claimed for an image.
        pool: The `cluster.pool.Pool` that runs attacks, or None to run them
            here.
    """

    model: object
    classifier: object
    data: object
    clean: object
    keeper: object
    seed: int
    batch_size: int
    resume_dir: object
    bars: object
    assumed: str = ""
    certificate: object = None
    kept: list = dataclasses.field(default_factory=list)
    blind: list = dataclasses.field(default_factory=list)
    shares: np.ndarray | None = None
    pool: object = None

    def __post_init__(self):
        self.shares = np.zeros(len(self.clean.labels))

    @property
    def judge(self):
        """Who decides that an image is fooled."""
        draws = None if self.clean.draws is None else FRESH_DRAWS
        return Judge(self.classifier, draws)

    @functools.cached_property
    def digest(self):
        """What the model consists of, and its weights: hexadecimal."""
        return fingerprint.digest(self.classifier, self.clean.noise)

    @functools.cached_property
    def _shared_header(self):
        """What the outcomes of every attack depend on; see `store.claim`."""
        clean = self.clean
        header = {
            "version": [__version__, keras.__version__],
            "seed": self.seed,
            "model": [
                self.digest,
                "steady" if clean.change is None else "randomized",
            ],
        }
        logits = fingerprint.logits(self.classifier, clean, self.batch_size)
        resume.claim(self.resume_dir, header, clean.identities, logits)
        return header

    @functools.cached_property
    def _gradient(self):
        return fingerprint.gradient(
            self.classifier, self.clean.noise, self.batch_size
        )

    def header(self, part):
        """What outcomes depend on, besides the settings of the attack.

        The gradient is that of the stand-in, where an attack follows one.
        """
        if self.resume_dir is None:
            return {}
        header = {**self._shared_header, "gradient": None}
        stand_in = part.surrogate and part.surrogate.stand_in
        # That of a randomized model is another one each time.
        if stand_in is not None:
            other = self.classifier.beside(stand_in)
            header["gradient"] = fingerprint.gradient(
                other, self.clean.noise, self.batch_size
            )
            # At noise, a saturated one has none whatever its scale.
            known = fingerprint.digest(other, self.clean.noise)
            header["surrogate"] = known
        elif part.follows_gradient and self.clean.change is None:
            header["gradient"] = self._gradient
        return header

    def run(self, attack, budgets, attacked):
        """Run an attack on the images `attacked`, `(n,)` bool.

        Those that are proved to resist it are left out.
        """
        job = Job(self, attack, budgets)
        proved = bracket.proved(self.certificate, attack, budgets)
        outcomes = job.run(attacked & ~proved)
        bracket.check(self.certificate, attack, outcomes)
        self.shares = np.maximum(self.shares, outcomes.share)
        judged = list(_judge(job.attack, budgets, outcomes, attacked))
        self.kept.append((judged, job.pictures))
        if outcomes.blind is not None:
            blind = outcomes.blind & ~proved
            self.blind.append((attack.norm, budgets, blind))

    def report(self, pictures=False, **settings):
        """The `Report` so far.

        Args:
            pictures: Whether with samples and the head's geometry.
            **settings: What the environment is to say besides.
        """
        told = {"assumed": self.assumed, "dataset": self.data.description}
        report = Report(
            clean_correct=self.clean.correct,
            results=tuple(r for judged, _ in self.kept for r in judged),
            environment={
                **environment(self.seed, self.model),
                **{key: value for key, value in told.items() if value},
                **settings,
            },
            identities=tuple(self.clean.identities),
            certificate=self.certificate,
        )
        if not pictures:
            return report
        return dataclasses.replace(
            report,
            samples=collect(
                self.keeper, self.kept, self.classifier, self.batch_size
            ),
            shard=shards.record(self),
            geometry=head_geometry(self.model),
        )


def _judge(attack, budgets, outcomes, attacked):
    """The results of an attack, one for each budget."""
    for budget in budgets:
        limit = np.inf
        if budget is not None:
            limit = budget + _checks.tolerance(budget, attack.bounds)
        hit = outcomes.success & (outcomes.distance <= limit)
        yield AttackResult(
            name=attack.label,
            norm=attack.norm,
            eps=budget,
            attack=attack.config(),
            minimum_norm=attack.minimum_norm,
            attacked=attacked,
            robust=attacked & ~hit,
            distance=outcomes.distance,
            steps=outcomes.steps,
            zero_gradients=outcomes.zero_gradients,
            bad_gradients=outcomes.bad_gradients,
            seconds=outcomes.seconds,
            denied=outcomes.denied & ~hit,
            predicted=np.where(hit, outcomes.predicted, -1),
            in_bytes=np.where(hit, outcomes.in_bytes, -1),
            call=repr(attack),
        )


def warn_of_bad_gradients(results):
    """Warn of attacks that met gradients which are not finite."""
    for result in results:
        bad = int((result.bad_gradients > 0).sum())
        if bad:
            warnings.warn(
                f"{result.name} met gradients that are not finite on {bad} of "
                f"{int(result.attacked.sum())} images and took them for "
                "zero: its accuracy may be too high.",
                stacklevel=3,
            )
