"""Google's ROUGE as a reference implementation, without its logging to pytest's stream."""

import sys

from absl import logging
from rouge_score.rouge_scorer import RougeScorer as RougeScorer

# absl's handler keeps the stderr of import time and closes it when the root handlers are reconfigured.
logging.get_absl_handler().python_handler.stream = sys.__stderr__
