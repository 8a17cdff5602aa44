"""What an evaluation found: the numbers, and the forms they are shown in."""

import dataclasses
import math
import pathlib

import numpy as np

from keras_wp.reports import serialize, text
from keras_wp.reports.html import report_page
from keras_wp.reports.results import AttackResult as AttackResult
from keras_wp.reports.serialize import written
from keras_wp.reports.shard import Shard
from keras_wp.reports.shown import STYLES, Shown
from keras_wp.reports.verdict import headline, verdict
from keras_wp.reports.wording import eps_text

_TONES = {**STYLES, "good": "green", "none": ""}


@dataclasses.dataclass(frozen=True, repr=False)
class Report(Shown):
    """The result of `keras_wp.evaluate`.

    `report["PGD20"]` is the `AttackResult` of that name, with the largest eps
    if there were several; `report["PGD20", 0.1]` is that with eps 0.1.
    Printing a report shows a table. `to_json` writes everything, image by
    image, and `from_json` reads it.

    Attributes:
        clean_correct: `(n,)` bool, which images are classified correctly.
        results: The results, in the order of the attacks, then of eps.
        environment: Versions, device, seed and model.
        findings: Why the numbers may be too good, each with a `severity`, a
            `message` and its `evidence`.
        identities: What each image is known by: a digest of its pixels, and
            its label.
        samples: A few images, with what each attack made of them.
        geometry: That of the model's last layer, or None if it has none.
        certificate: The `Certificate` of the same images, or None.
        shard: Which part of the data it is of, a `shard.Shard`, or None.
    """

    clean_correct: np.ndarray
    results: tuple[AttackResult, ...]
    environment: dict
    findings: tuple = ()
    identities: tuple = ()
    samples: tuple = ()
    geometry: object = None
    certificate: object = None
    shard: Shard | None = None

    _last = "bold"

    def __len__(self):
        return len(self.clean_correct)

    def __getitem__(self, key):
        name, eps = key if isinstance(key, tuple) else (key, None)
        named = [r for r in self.results if r.name == name]
        if eps is not None:
            named = [r for r in named if r.eps and np.isclose(r.eps, eps)]
        if not named:
            known = [
                r.name if r.eps is None else f"{r.name} (eps {eps_text(r.eps)})"
                for r in self.results
            ]
            raise KeyError(f"No result {key!r}. There are: {', '.join(known)}")
        return named[-1]

    @property
    def clean_accuracy(self):
        """Share of the images that are classified correctly as they are."""
        return float(self.clean_correct.mean())

    @property
    def budgets(self):
        """The pairs `(norm, eps)` of the results, smallest eps first."""
        pairs = {(r.norm, r.eps) for r in self.results}
        return sorted(pairs, key=lambda p: (p[0], p[1] or np.inf))

    @property
    def threat_model(self):
        """What `robust_accuracy` resists: `{norm: largest eps}`.

        Norms in which no attack has a budget take no part. If there is no
        budget at all, each norm has the eps infinity.
        """
        largest = {norm: eps for norm, eps in self.budgets if eps is not None}
        return largest or {norm: math.inf for norm, _ in self.budgets}

    @property
    def robust_accuracy(self):
        """Share of the images on which every attack failed.

        The worst case, image by image, over all perturbations that lie within
        `threat_model`: the largest eps of each norm that has one. With
        several norms an image must resist in all of them (the union of the
        threat models: Tramèr and Boneh, "Adversarial training and robustness
        for multiple perturbations", NeurIPS 2019), so the number is to be
        compared with others of the same norms only. What an attack without a
        budget found counts if it lies within these eps; if no attack has a
        budget, whatever was found counts, at any distance.
        """
        return float(self.robust().mean())

    def robust(self, norm=None, eps=None):
        """Which images resist every attack: `(n,)` bool.

        Args:
            norm: Count perturbations in this norm only. May be left out to
                count those in every norm of `threat_model`.
            eps: Count perturbations up to this size only, whatever budget
                they were looked for with; infinity counts all. Defaults to
                the norm's largest budget, or infinity if it has none.

        Raises:
            ValueError: If `eps` is given without `norm`, and the attacks use
                several norms.
        """
        threats = self.threat_model
        if eps is not None:
            threats = {self._only_norm(norm): eps}
        elif norm is not None:
            threats = {norm: threats.get(norm, math.inf)}
        robust = self.clean_correct.copy()
        for result in self.results:
            if result.norm in threats:
                robust &= ~result.within(threats[result.norm])
        return robust

    @property
    def labels(self):
        """The labels, `(n,)`; None if the report does not tell images."""
        if not self.identities:
            return None
        return np.array([int(i.rpartition("-")[2]) for i in self.identities])

    def confused_with(self):
        """What each image is taken for in the worst case: `(n,)` classes.

        -1 where the image resists, is misclassified as it is, or where it is
        not known.
        """
        found = np.full(len(self), -1)
        fooled = self.clean_correct & ~self.robust()
        for result in self.results:
            limit = self.threat_model.get(result.norm)
            if limit is None or result.predicted is None:
                continue
            mine = fooled & (found < 0) & result.within(limit)
            found[mine] = result.predicted[mine]
        return found

    def curve(self, norm=None):
        """Worst-case accuracy against eps: `{eps: accuracy}`.

        Args:
            norm: The norm of the curve; may be left out if there is but one.
        """
        norm = self._only_norm(norm)
        return {
            eps: float(self.robust(norm, eps).mean())
            for n, eps in self.budgets
            if n == norm and eps is not None
        }

    def bracket(self, norm, eps):
        """Between which shares the accuracy within a budget is.

        Args:
            norm: The norm, `"l2"` or `"linf"`.
            eps: The budget.

        Returns:
            `(proved, not broken)`: the share of images that are certified, and
            of those on which every attack failed.

        Raises:
            ValueError: If there is no certificate; see
                `keras_wp.evaluate(..., certify=True)`.
        """
        if self.certificate is None:
            raise ValueError(
                "A bracket needs a certificate: evaluate(..., certify=True). "
                "Received: a report without one"
            )
        proved = self.certificate.accuracy(eps, norm)
        return proved, float(self.robust(norm, eps).mean())

    def _only_norm(self, norm):
        norms = {n for n, _ in self.budgets}
        if norm is None and len(norms) > 1:
            raise ValueError(
                "Argument `norm` must be given, as the attacks use several: "
                f"{sorted(norms)}. Received: norm=None"
            )
        return norm or norms.pop()

    def __repr__(self):
        return (
            f"<Report of {len(self)} images: clean {self.clean_accuracy:.1%}, "
            f"robust {self.robust_accuracy:.1%}>"
        )

    def _repr_markdown_(self):
        return self.to_markdown()  # In a notebook.

    def _caption(self):
        return text.caption(self)

    def _rows(self):
        return text.rows(self)

    def _tone(self):
        return _TONES[verdict(self)[0]]

    def _sentences(self):
        return [headline(self), *text.inside(self)]

    def _values(self):
        return serialize.contents(self)

    def to_html(self, path=None, class_names=None, title=None):
        """Everything as one HTML page, which needs no network.

        The table, accuracy against eps, findings, a few images with what
        attacks made of them, the geometry of the last layer, and how to
        reproduce it. The page runs no script.

        Args:
            path: A file to write it to, or None.
            class_names: The classes' names, in the order of the labels, or
                None to number them.
            title: The page's title; defaults to the model's name.

        Returns:
            The HTML text.
        """
        return written(report_page(self, class_names, title), path, end="")

    @classmethod
    def from_json(cls, path):
        """The report that `to_json` wrote, with the same numbers.

        Args:
            path: The file.

        Raises:
            ValueError: If the file is not such a report.
        """
        text = pathlib.Path(path).read_text(encoding="utf-8")
        return cls(**serialize.decode(text, path))
