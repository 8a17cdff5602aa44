"""Outcomes on disk, one line each, so that a killed evaluation goes on.

One file for each attack and eps: a header that says what was run on what,
then a JSON line for each image as it is done. A line that a kill has torn is
dropped.
"""

import hashlib
import json
import pathlib
import re

import numpy as np

from keras_wp.classifier import weights_digest

_FORMAT = 2


# Logits of one model may differ so much, relative to the largest of them,
# from one process or device to another; gradients, which jump where a unit
# falls silent, by more.
_TOLERANCE = 1e-3
_TOLERANCE_OF_GRADIENTS = 1e-2


def fingerprint(model, predictions):
    """What tells a model from another: its weights, or its predictions.

    Models may differ in what is no weight, such as an activation or the
    scale of the logits, or in their gradients only. A header takes some of
    both beside this.
    """
    if hasattr(model, "weights"):
        return weights_digest(model)
    predictions = np.asarray(predictions, np.int32).tobytes()
    return hashlib.blake2b(predictions, digest_size=8).hexdigest()


def _same(found, wanted, tolerance=_TOLERANCE):
    """Whether entries of headers agree; numbers in lists up to rounding."""
    both = isinstance(found, list) and isinstance(wanted, list)
    if not both or len(found) != len(wanted):
        return found == wanted
    numbers = [abs(value) for value in wanted if isinstance(value, float)]
    limit = tolerance * max(numbers, default=0.0)

    def close(a, b):
        both = isinstance(a, float) and isinstance(b, float)
        return abs(a - b) <= limit if both else a == b

    return all(map(close, found, wanted))


class Store:
    """The outcomes of one attack at one eps.

    Args:
        directory: Where to keep them, or None to keep them in memory only.
        header: What the outcomes depend on, as plain values.
        label: Leads the file's name.

    Raises:
        ValueError: If the directory holds this attack's outcomes for another
            model or seed.
    """

    def __init__(self, directory, header, label):
        self.outcomes = {}
        self._file = None
        if directory is None:
            return
        header = json.loads(json.dumps({"format": _FORMAT, **header}))
        which = json.dumps(header["attack"], sort_keys=True).encode()
        digest = hashlib.blake2b(which, digest_size=4).hexdigest()
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", label)
        path = pathlib.Path(directory) / f"{name}-{digest}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._load(path, header)
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write(header)

    def _load(self, path, header):
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        lines = whole.decode("utf-8").splitlines()
        if not lines:
            return
        found = json.loads(lines[0])
        limits = {"gradient": _TOLERANCE_OF_GRADIENTS}
        changed = [
            key
            for key in header
            if not _same(
                found.get(key), header[key], limits.get(key, _TOLERANCE)
            )
        ]
        if changed:
            raise ValueError(
                f"`resume_dir` holds an evaluation with another {changed[0]}: "
                "name an empty directory, or delete "
                f"{path.name}. Received: resume_dir={str(path.parent)!r}"
            )
        for line in lines[1:]:
            identity, *values = json.loads(line)
            self.outcomes[identity] = values

    def _write(self, value):
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()

    def add(self, identity, values):
        """Keep the outcome of one image."""
        self.outcomes[identity] = values
        if self._file is not None:
            self._write([identity, *values])

    def close(self):
        """Close the file."""
        if self._file is not None:
            self._file.close()
