"""A report as JSON, and back, with the same numbers."""

import base64
import dataclasses
import json
import math
import pathlib
import zlib

import numpy as np

from keras_wp.inspection.geometry import Geometry
from keras_wp.reports.certificate import Certificate
from keras_wp.reports.findings import Finding
from keras_wp.reports.results import AttackResult
from keras_wp.reports.samples import Attempt, Sample
from keras_wp.reports.shard import Shard

_BOOLEANS = ("attacked", "robust", "denied")
_COUNTS = ("steps", "zero_gradients", "bad_gradients", "predicted", "in_bytes")


def written(text, path, end="\n"):
    """The text, which is written to a path too, if there is one."""
    if path is not None:
        pathlib.Path(path).write_text(text + end, "utf-8")
    return text


def contents(report):
    """Everything in a report, and what follows from it, for JSON."""
    geometry, shard = report.geometry, report.shard
    return {
        "environment": report.environment,
        "num_images": len(report),
        "clean_accuracy": report.clean_accuracy,
        "robust_accuracy": report.robust_accuracy,
        "threat_model": report.threat_model,
        "worst_case": [
            {
                "norm": norm,
                "eps": eps,
                "robust_accuracy": float(
                    report.robust(norm, eps or math.inf).mean()
                ),
            }
            for norm, eps in report.budgets
        ],
        "findings": list(map(dataclasses.asdict, report.findings)),
        "clean_correct": report.clean_correct.astype(int),
        "results": list(map(_result, report.results)),
        "identities": report.identities,
        "geometry": geometry and dataclasses.asdict(geometry),
        "certificate": _certificate(report.certificate),
        "samples": list(map(_sample, report.samples)),
        "shard": shard and dataclasses.asdict(shard),
    }


def decode(text, source):
    """The fields of the report that `contents` tells.

    Args:
        text: The JSON text.
        source: Where it is from, for the error.

    Raises:
        ValueError: If it is not such a text.
    """
    try:
        values = json.loads(text)
        geometry = values.get("geometry")
        return {
            "clean_correct": np.asarray(values["clean_correct"], bool),
            "results": tuple(map(_attack_result, values["results"])),
            "environment": values["environment"],
            "findings": tuple(Finding(**f) for f in values.get("findings", ())),
            "identities": tuple(values.get("identities", ())),
            "geometry": geometry and _geometry(geometry),
            "certificate": _decoded_certificate(values.get("certificate")),
            "samples": tuple(map(_decoded_sample, values.get("samples", ()))),
            "shard": Shard(**values["shard"]) if values.get("shard") else None,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            "The file must be a report that `to_json` wrote. Received: "
            f"{str(source)!r} ({type(error).__name__}: {error})"
        ) from None


def _certificate(found):
    if found is None:
        return None
    return {**vars(found), "correct": found.correct.astype(int)}


def _decoded_certificate(values):
    if values is None:
        return None
    kinds = {
        "radius": float,
        "rounding": float,
        "prediction": np.int32,
        "correct": bool,
    }
    arrays = {n: np.asarray(values[n], kind) for n, kind in kinds.items()}
    return Certificate(**{**values, **arrays})


def plain(value):
    """`value` as what JSON knows; numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _result(result):
    # Not `asdict`: it would copy every array.
    values = dict(vars(result))
    for name in _BOOLEANS:
        if values[name] is not None:
            values[name] = values[name].astype(int)
    return {
        **values,
        "robust_accuracy": result.robust_accuracy,
        "confidence_interval": result.confidence_interval,
        "median_distance": result.median_distance,
        "mean_steps": result.mean_steps,
    }


def _attack_result(values):
    fields = {f.name for f in dataclasses.fields(AttackResult)}
    values = {k: v for k, v in values.items() if k in fields}
    for names, kind in ((_BOOLEANS, bool), (_COUNTS, np.int64)):
        for name in names:
            if values.get(name) is not None:
                values[name] = np.asarray(values[name], kind)
    values["distance"] = np.asarray(
        [np.inf if d is None else d for d in values["distance"]], float
    )
    return AttackResult(**values)


def _geometry(values):
    return Geometry(
        **{
            **values,
            "angles": np.asarray(values["angles"], float),
            "lengths": np.asarray(values["lengths"], float),
        }
    )


def _sample(sample):
    attempts = [
        {**vars(attempt), "image": _pixels(attempt.image)}
        for attempt in sample.attempts
    ]
    image = _pixels(sample.image)
    return {**vars(sample), "image": image, "attempts": attempts}


def _decoded_sample(values):
    attempts = tuple(
        Attempt(**{**a, "image": _image(a["image"])})
        for a in values["attempts"]
    )
    return Sample(
        **{
            **values,
            "image": _image(values["image"]),
            "attempts": attempts,
            "resisted": tuple(values["resisted"]),
        }
    )


def _pixels(image):
    """Float32 pixels as text: little-endian, deflated, in base 64."""
    raw = np.ascontiguousarray(image, "<f4").tobytes()
    data = base64.b64encode(zlib.compress(raw)).decode("ascii")
    return {"shape": list(image.shape), "float32": data}


def _image(values):
    raw = zlib.decompress(base64.b64decode(values["float32"]))
    return np.frombuffer(raw, "<f4").reshape(values["shape"])
