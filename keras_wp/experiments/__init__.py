"""The paper's experiments again, and studies of what is behind them.

python -m keras_wp.experiments --help
"""

from absl import logging

logging.set_verbosity(logging.ERROR)
