"""Google's ROUGE, the second implementation; its logging must not close the stream that pytest lends it."""

import sys

from absl import logging
from rouge_score.rouge_scorer import RougeScorer as RougeScorer

# Its handler holds what stderr was at import, and closes it whenever the root's handlers are set up anew.
logging.get_absl_handler().python_handler.stream = sys.__stderr__
