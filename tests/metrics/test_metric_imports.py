import subprocess
import sys

import pytest

HEAVY = ("sklearn", "scipy", "matplotlib", "open_clip", "torchmetrics", "jinja2", "pytorch_lightning")


@pytest.mark.parametrize("module", ["retrieval", "statistics.intervals", "ridge", "statistics.score"])
def test_import_does_not_load_heavy_libraries(module: str) -> None:
    code = f"import sys, mindeye_pl.metrics.{module}; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
