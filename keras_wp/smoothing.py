"""Randomized smoothing: certificates for any model, of its smoothed form."""

import numpy as np
from scipy import stats

from keras_wp import _backend, _checks, _noise
from keras_wp._checks import check_at_least, check_positive
from keras_wp._version import __version__
from keras_wp.engine import predict
from keras_wp.evaluation import fingerprint
from keras_wp.evaluation.data import Data, identities
from keras_wp.evaluation.progress import Progress
from keras_wp.evaluation.resume import Store
from keras_wp.inspection.classifier import Classifier
from keras_wp.objectives import predicted
from keras_wp.reports.smoothed import ABSTAINED, SmoothedCertificate


def certify(
    model,
    data,
    sigma,
    n0=100,
    n=10_000,
    alpha=1e-3,
    seed=0,
    batch_size=128,
    resume_dir=None,
    progress=True,
):
    """Certify the smoothed form of any model, by sampling.

    The smoothed classifier predicts the class that the model returns most often
    for an image with Gaussian noise of deviation `sigma`. That class is guessed
    from `n0` noisy images, and its probability bounded from below by `p`
    from `n` others (Clopper and Pearson's bound of level `alpha`). If `p` is
    above 1/2, the prediction is constant within the l2 radius
    `sigma * Phi^-1(p)`, `Phi` being the normal distribution function;
    otherwise the classifier abstains.

    The promise holds for each image with probability `1 - alpha`, and is about
    the smoothed classifier in exact arithmetic.

    Args:
        model: As in `keras_wp.evaluate`; best trained with such noise.
        data: As in `keras_wp.evaluate`.
        sigma: Standard deviation of the noise, in units of the pixels, above
            0.
        n0: Noisy images for the guess, at least 1.
        n: Noisy images for the bound, at least 1.
        alpha: Probability of a wrong radius, in (0, 1).
        seed: Integer; with an image's contents it determines its noise.
        batch_size: How many images a device works on at a time, at most.
        resume_dir: A directory to keep outcomes in, from which the same call
            continues after an interruption; or None.
        progress: Whether to show a progress bar (on a terminal only).

    Returns:
        A `SmoothedCertificate`.

    Raises:
        ValueError: If an argument is not as described.

    Source: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via
    randomized smoothing" (ICML 2019), section 3.2, algorithm CERTIFY.

    Example:

    >>> found = keras_wp.smoothing.certify(model, data, sigma=0.25)
    >>> found.accuracy(eps=0.25)
    """
    check_positive(sigma=sigma)
    check_at_least(1, n0=n0, n=n)
    _checks.batch_size(batch_size)
    if not 0 < alpha < 1:
        raise ValueError(
            "Argument `alpha` must be a number in (0, 1). Received: "
            f"alpha={alpha!r}"
        )
    data, classifier = Data(data), Classifier(model)
    settings = {"sigma": float(sigma), "n0": int(n0), "n": int(n)}
    store, names, labels = None, [], []
    with Progress(progress) as bars, bars.task("smoothing", None) as report:
        try:
            for raw, y in data:
                x = _checks.images(raw)
                sample = _Sampler(classifier, x, sigma, batch_size)
                y = _checks.labels(y, len(x), sample.classes)
                digests = _noise.image_digests(x)
                keys = _noise.seeded(digests, seed)
                store = store or _store(
                    resume_dir, classifier, x, {**settings, "seed": int(seed)}
                )
                for name, image, key in zip(
                    identities(digests, y), x, keys, strict=True
                ):
                    if name not in store.outcomes:
                        store.add(name, sample(image, key, n0, n))
                    names.append(name)
                    report(len(names))
                labels.append(y)
        finally:
            if store is not None:
                store.close()
    if not names:
        raise ValueError("`data` must hold at least one image. Received: none")
    guesses, hits = np.array([store.outcomes[name] for name in names]).T
    # Clopper and Pearson's bound of one side.
    with np.errstate(invalid="ignore"):
        low = stats.beta.ppf(alpha, hits, n - hits + 1)
    low = np.where(hits > 0, low, 0.0)
    sure = low > 0.5
    return SmoothedCertificate(
        radius=np.where(sure, sigma * stats.norm.ppf(low), 0.0),
        prediction=np.where(sure, guesses, ABSTAINED),
        labels=np.concatenate(labels),
        sigma=float(sigma),
        alpha=float(alpha),
        n=int(n),
    )


class _Sampler:
    """Classes that a model returns for noisy images."""

    def __init__(self, classifier, x, sigma, batch_size):
        classifier.settle(x)
        self._program = predict.forward_pass(classifier, x.shape[1:])
        self._size = _backend.preferred_slots(batch_size)
        self._chunk = self._size * len(self._program.devices) * 4
        self._sigma = np.float32(sigma)
        logits = predict.forward(self._program, x[:1], self._size)
        _checks.logits(logits, classifier.model)
        self.classes = logits.shape[-1]

    def __call__(self, image, key, n0, n):
        """The class guessed, and how often it is returned of `n` times.

        Args:
            image: `(...)`.
            key: Two words, of which the noise is made.
            n0: How often for the guess.
            n: How often after it.
        """
        rng = np.random.default_rng([int(word) for word in key])
        guess = int(self._counts(image, rng, n0).argmax())
        return [guess, int(self._counts(image, rng, n)[guess])]

    def _counts(self, image, rng, count):
        counts = np.zeros(self.classes, int)
        while count:
            now = min(count, self._chunk)
            noise = rng.standard_normal((now, *image.shape), np.float32)
            noisy = image + self._sigma * noise
            logits = predict.forward(self._program, noisy, self._size)
            found = predicted(logits)
            counts += np.bincount(found, minlength=self.classes)
            count -= now
        return counts


def _store(directory, classifier, x, settings):
    """The outcomes known of this model."""
    header = {"attack": settings}
    if directory is not None:
        blank = fingerprint.blank(x.shape[1:], (0.0, 1.0))
        header["version"] = __version__
        header["model"] = fingerprint.digest(classifier, blank)
    return Store(directory, header, "smoothing")
