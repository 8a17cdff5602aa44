"""What an evaluation found: numbers, tables and files."""

import dataclasses
import json
import pathlib

import numpy as np

from keras_wp.evaluation.statistics import wilson


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """What one attack did, within one budget, image by image.

    Attributes:
        name: The attack's label.
        norm: The norm that distances are measured in.
        eps: The budget, or None if any distance counts.
        attack: The attack's hyperparameters, as plain values.
        minimum_norm: Whether the attack looked for smallest perturbations.
        attacked: `(n,)` bool, which images were classified rightly at first.
        robust: `(n,)` bool, which of them still are.
        distance: `(n,)`, length of the perturbation; infinite where none
            succeeded.
        steps: `(n,)`, iterations spent.
        zero_gradients: `(n,)`, how many gradients were zero in every pixel.
        bad_gradients: `(n,)`, how many were not finite.
        seconds: Wall-clock time of the attack.
    """

    name: str
    norm: str
    eps: float | None
    attack: dict
    minimum_norm: bool
    attacked: np.ndarray
    robust: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    zero_gradients: np.ndarray
    bad_gradients: np.ndarray
    seconds: float

    @property
    def robust_accuracy(self):
        """Share of all images that are classified rightly in spite of it."""
        return float(self.robust.mean())

    @property
    def confidence_interval(self):
        """The 95 % Wilson interval of the robust accuracy."""
        return wilson(int(self.robust.sum()), len(self.robust))

    @property
    def median_distance(self):
        """Median length of the perturbation over the attacked images.

        Images on which the attack failed count as infinitely far.
        """
        if not self.attacked.any():
            return float("nan")
        return float(np.median(self.distance[self.attacked]))

    @property
    def mean_steps(self):
        """Iterations spent for each attacked image, on average."""
        return float(self.steps.sum() / max(1, self.attacked.sum()))

    @property
    def vanished_gradients(self):
        """Share of the attacked images that met an all-zero gradient."""
        met = (self.zero_gradients > 0) & self.attacked
        return float(met.sum() / max(1, self.attacked.sum()))


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of `keras_wp.evaluate`.

    `report["PGD20"]` is the `AttackResult` of that name, with the largest eps
    if there were several; `report["PGD20", 0.1]` is that with eps 0.1.
    Printing a report shows a table.

    Attributes:
        clean_correct: `(n,)` bool, which images are classified rightly.
        results: The results, in the order of the attacks, then of eps.
        environment: Versions, device, seed and model.
    """

    clean_correct: np.ndarray
    results: tuple[AttackResult, ...]
    environment: dict

    def __len__(self):
        return len(self.clean_correct)

    def __getitem__(self, key):
        name, eps = key if isinstance(key, tuple) else (key, None)
        named = [r for r in self.results if r.name == name]
        if eps is not None:
            named = [r for r in named if r.eps and np.isclose(r.eps, eps)]
        if not named:
            known = [
                r.name if r.eps is None else f"{r.name} (eps {r.eps:g})"
                for r in self.results
            ]
            raise KeyError(f"No result {key!r}. There are: {', '.join(known)}")
        return named[-1]

    @property
    def clean_accuracy(self):
        """Share of the images that are classified rightly as they are."""
        return float(self.clean_correct.mean())

    @property
    def robust_accuracy(self):
        """Share of the images on which every attack failed.

        The worst case per image over all attacks, each with its largest eps.
        """
        return float(self.robust().mean())

    @property
    def budgets(self):
        """The pairs `(norm, eps)` of the results, smallest eps first."""
        pairs = {(r.norm, r.eps) for r in self.results}
        return sorted(pairs, key=lambda p: (p[0], p[1] or np.inf))

    def robust(self, norm=None, eps=None):
        """Which images resist every attack: `(n,)` bool.

        Args:
            norm: Count attacks in this norm only.
            eps: Count perturbations up to this size only, whatever budget
                they were looked for with.
        """
        robust = self.clean_correct.copy()
        for result in self.results:
            if norm is not None and result.norm != norm:
                continue
            if eps is None or (result.eps is not None and result.eps <= eps):
                robust &= result.robust
            else:
                robust &= ~(result.attacked & (result.distance <= eps))
        return robust

    def curve(self, norm=None):
        """Worst-case accuracy against eps: `{eps: accuracy}`.

        Args:
            norm: The norm of the curve; may be left out if there is but one.
        """
        norms = {n for n, _ in self.budgets}
        if norm is None and len(norms) > 1:
            raise ValueError(
                "Argument `norm` must be given, as the attacks use several: "
                f"{sorted(norms)}. Received: norm=None"
            )
        norm = norm or norms.pop()
        return {
            eps: float(self.robust(norm, eps).mean())
            for n, eps in self.budgets
            if n == norm and eps is not None
        }

    def _rows(self):
        budgets = self.budgets
        header = ["attack"] + [_budget(n, e) for n, e in budgets]
        minimum = any(r.minimum_norm for r in self.results)
        header += ["median distance"] if minimum else []
        header += ["steps/image", "zero grad", "seconds"]
        yield header
        count = len(self)
        clean = _share(int(self.clean_correct.sum()), count)
        blank = [""] * (len(header) - 1 - len(budgets))
        yield ["clean", *[clean] * len(budgets), *blank]
        for name in dict.fromkeys(r.name for r in self.results):
            mine = {(r.norm, r.eps): r for r in self.results if r.name == name}
            first = next(iter(mine.values()))
            cells = [
                _share(int(mine[b].robust.sum()), count) if b in mine else ""
                for b in budgets
            ]
            if minimum:
                median = f"{first.median_distance:.4g}"
                cells.append(median if first.minimum_norm else "")
            separate = [first] if first.minimum_norm else list(mine.values())
            steps = np.mean([r.mean_steps for r in separate])
            vanished = max(r.vanished_gradients for r in separate)
            seconds = sum(r.seconds for r in separate)
            cells += [f"{steps:.1f}", f"{vanished:.1%}", f"{seconds:.1f}"]
            yield [name, *cells]
        worst = [
            _share(int(self.robust(n, e).sum()), count) for n, e in budgets
        ]
        yield ["worst case", *worst, *blank]

    def to_markdown(self):
        """The table in Markdown; accuracies with 95 % intervals."""
        header, *rows = self._rows()
        lines = [header, ["---"] * len(header), *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self._caption()}\n\n{table}\n"

    def __str__(self):
        header, *rows = self._rows()
        widths = [
            max(len(row[i]) for row in [header, *rows])
            for i in range(len(header))
        ]

        def line(row):
            first = row[0].ljust(widths[0])
            rest = map(str.rjust, row[1:], widths[1:])
            return "  ".join([first, *rest]).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        lines = [line(header), rule, *map(line, rows[:-1]), rule]
        return "\n".join([self._caption(), "", *lines, line(rows[-1])])

    def _caption(self):
        env = self.environment
        return (
            f"{len(self)} images; accuracy in % with its 95 % interval; "
            f"{env['model']}, keras {env['keras']} on {env['backend']}, "
            f"seed {env['seed']}"
        )

    def to_json(self, path=None):
        """Everything as JSON, image by image.

        Args:
            path: A file to write it to, or None.

        Returns:
            The JSON text.
        """
        text = json.dumps(
            {
                "environment": self.environment,
                "num_images": len(self),
                "clean_accuracy": self.clean_accuracy,
                "robust_accuracy": self.robust_accuracy,
                "worst_case": [
                    {
                        "norm": norm,
                        "eps": eps,
                        "robust_accuracy": float(self.robust(norm, eps).mean()),
                    }
                    for norm, eps in self.budgets
                ],
                "clean_correct": self.clean_correct.astype(int).tolist(),
                "results": [_plain(result) for result in self.results],
            },
            indent=1,
            allow_nan=False,
        )
        if path is not None:
            pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
        return text


def _budget(norm, eps):
    return norm if eps is None else f"{norm} {eps:.4g}"


def _share(successes, count):
    low, high = wilson(successes, count)
    share = successes / count
    return f"{100 * share:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _plain(result):
    values = dataclasses.asdict(result)
    for name in ("attacked", "robust"):
        values[name] = getattr(result, name).astype(int).tolist()
    for name in ("steps", "zero_gradients", "bad_gradients"):
        values[name] = getattr(result, name).tolist()
    values["distance"] = [
        float(d) if np.isfinite(d) else None for d in result.distance
    ]
    low, high = result.confidence_interval
    median = result.median_distance
    return {
        **values,
        "robust_accuracy": result.robust_accuracy,
        "confidence_interval": [low, high],
        "median_distance": median if np.isfinite(median) else None,
        "mean_steps": result.mean_steps,
    }
