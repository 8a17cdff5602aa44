"""Outcomes on disk, one line each, so that a killed evaluation continues.

One file for each attack and eps: a header that says what was run on what,
then a JSON line for each image as it is done. A line that a kill has torn is
dropped. And one file for all of them, `clean.npz`, which says of which model
and data they are, and has the model's logits of the clean images.
"""

import hashlib
import json
import pathlib
import re
import zipfile

import numpy as np

from keras_wp._files import write_whole

_FORMAT = 3
_MANIFEST = "clean.npz"

# Logits of one model may differ so much, relative to the largest of them,
# from one process or device to another; gradients, which jump where a unit
# falls silent, by more.
_TOLERANCE = 1e-3
_TOLERANCE_OF_GRADIENTS = 1e-2


def claim(directory, header, identities, logits):
    """Make sure that a directory has no outcomes of another evaluation.

    Nothing is written where it has.

    Args:
        directory: The directory.
        header: What all outcomes depend on, by name, as plain values.
        identities: Those of the images. There may be more or fewer of them
            than before, but not others.
        logits: Some of the model's logits, by identity.

    Raises:
        ValueError: If it has: it says what is another.
    """
    directory = pathlib.Path(directory)
    path, images = directory / _MANIFEST, {*identities}
    header = json.loads(json.dumps({"format": _FORMAT, **header}))
    outcomes = [*directory.glob("*.jsonl")]
    if outcomes:
        found, known, kept = _read_manifest(path, outcomes)
        for name, value in header.items():
            if found.get(name) != value:
                raise _another(name, outcomes)
        if not (known <= images or images <= known):
            raise _another("set of images", outcomes)
        if not all(
            _close(kept[name], logits[name]) for name in kept.keys() & logits
        ):
            raise _another("model", outcomes)
        if images <= known:
            return
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {
        "header": json.dumps(header),
        "images": np.asarray(sorted(images), "S"),
        "names": np.asarray([*logits], "S"),
        "logits": np.asarray([*logits.values()], np.float32),
    }
    write_whole(path, lambda to: np.savez_compressed(to, **arrays))


def _read_manifest(path, outcomes):
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            header = json.loads(str(arrays["header"]))
            images, names = (
                [name.decode() for name in arrays[key].tolist()]
                for key in ("images", "names")
            )
            rows = arrays["logits"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise ValueError(
            f"`resume_dir` holds outcomes without the {_MANIFEST} that says "
            "what they are of, such as those of an earlier version: "
            f"{_way_out(outcomes)}"
        ) from None
    return header, {*images}, dict(zip(names, rows, strict=True))


def _close(found, wanted):
    wanted = np.asarray(wanted, np.float32)
    limit = _TOLERANCE * np.abs(wanted).max()
    return found.shape == wanted.shape and np.all(abs(found - wanted) <= limit)


def _another(what, outcomes):
    return ValueError(
        f"`resume_dir` holds an evaluation with another {what}: "
        f"{_way_out(outcomes)}"
    )


def _way_out(outcomes):
    files = "its .jsonl files" if outcomes[1:] else outcomes[0].name
    return (
        f"name an empty directory, or delete {files}. Received: "
        f"resume_dir={str(outcomes[0].parent)!r}"
    )


def _same(found, wanted):
    """Whether entries of headers agree; gradients up to rounding."""
    both = isinstance(found, list) and isinstance(wanted, list)
    if not both or len(found) != len(wanted):
        return found == wanted
    numbers = [abs(value) for value in wanted if isinstance(value, float)]
    limit = _TOLERANCE_OF_GRADIENTS * max(numbers, default=0.0)

    def close(a, b):
        both = isinstance(a, float) and isinstance(b, float)
        return abs(a - b) <= limit if both else a == b

    return all(map(close, found, wanted))


def stem(label, settings):
    """The name of an attack's file, less its ending: of its settings, too."""
    which = json.dumps(settings, sort_keys=True).encode()
    digest = hashlib.blake2b(which, digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.-]+', '-', label)}-{digest}"


class Store:
    """The outcomes of one attack at one eps.

    Args:
        directory: Where to keep them, or None to keep them in memory only.
        header: What the outcomes depend on, as plain values.
        label: Leads the file's name.
        shards: Whether to take in what shards have found, in folders
            `shard-*` of the directory.

    Attributes:
        outcomes: By identity, what is kept of each image.
        files: For each file that was read, what it keeps of its images.

    Raises:
        ValueError: If the directory holds this attack's outcomes for another
            model or seed.
    """

    def __init__(self, directory, header, label, shards=True):
        self.outcomes, self.files = {}, []
        self._file = None
        if directory is None:
            return
        header = json.loads(json.dumps({"format": _FORMAT, **header}))
        name = stem(label, header["attack"])
        path = pathlib.Path(directory) / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole, size = self._load(path, header)
            if whole < size:
                with path.open("r+b") as file:
                    file.truncate(whole)
        others = path.parent.glob(f"shard-*/{path.name}") if shards else ()
        for other in sorted(others):
            self._load(other, header)  # Its owner may be at work.
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._write(header)

    def _load(self, path, header):
        """Take in a file; return how much of it is whole, and its size."""
        raw = path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        lines = whole.decode("utf-8").splitlines()
        if lines:
            found = json.loads(lines[0])
            for key in header:
                if not _same(found.get(key), header[key]):
                    raise _another(key, [path])
        kept = []
        for line in lines[1:]:
            identity, *values = json.loads(line)
            self.outcomes.setdefault(identity, values)
            kept.append(values)
        self.files.append(kept)
        return len(whole), len(raw)

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
