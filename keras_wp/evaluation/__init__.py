"""How robust a model is: the worst case over attacks, image by image."""

from keras_wp.evaluation.audit import audit
from keras_wp.evaluation.certify import certify
from keras_wp.evaluation.evaluate import evaluate
from keras_wp.inspection.geometry import Geometry, head_geometry
from keras_wp.reports.certificate import Certificate
from keras_wp.reports.compare import compare
from keras_wp.reports.comparison import Comparison
from keras_wp.reports.findings import Finding
from keras_wp.reports.leaderboard import Leaderboard
from keras_wp.reports.report import Report
from keras_wp.reports.results import AttackResult

__all__ = [
    "AttackResult",
    "Certificate",
    "Comparison",
    "Finding",
    "Geometry",
    "Leaderboard",
    "Report",
    "audit",
    "certify",
    "compare",
    "evaluate",
    "head_geometry",
]
