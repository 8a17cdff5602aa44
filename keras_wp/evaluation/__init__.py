"""How robust a model is: the worst case over attacks, image by image."""

from keras_wp.evaluation.audit import audit
from keras_wp.evaluation.evaluate import evaluate
from keras_wp.inspection.geometry import Geometry, head_geometry
from keras_wp.reports.comparison import Comparison, compare
from keras_wp.reports.findings import Finding
from keras_wp.reports.report import Report
from keras_wp.reports.results import AttackResult

__all__ = [
    "AttackResult",
    "Comparison",
    "Finding",
    "Geometry",
    "Report",
    "audit",
    "compare",
    "evaluate",
    "head_geometry",
]
