"""What pretraining is worth: paired difference of two starts over seeds and pictures, from finished evaluations.

python -m mindeye_pl -m +experiment=sweeps/seeds_subj01_1h logger=none
python benchmarks/pretraining_gain.py outputs
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from mindeye_pl.data.targets import TokenStore
from mindeye_pl.metrics.intervals import difference_over_pictures, difference_over_seeds
from mindeye_pl.metrics.retrieval import cosine_similarity, hit_rates

DIRECTIONS = ("image_retrieval", "brain_retrieval")


def hits(folder: Path, tokens: TokenStore) -> dict[str, np.ndarray]:
    """Whether each test picture is found, `(n,)` for both directions, among all test pictures."""
    saved = load_file(folder / "predictions.safetensors")
    clip = torch.from_numpy(tokens[saved["stimulus_ids"].numpy()]).float()
    similarity = cosine_similarity(query=saved["retrieval"].float(), gallery=clip)
    return {
        name: hit_rates(directed).numpy() for name, directed in zip(DIRECTIONS, (similarity, similarity.T), strict=True)
    }


def main(outputs: Path) -> None:
    (targets,) = (path.parent for path in (outputs / "targets").glob("*/manifest.json"))
    tokens = TokenStore.open(targets)
    found: dict[str, dict[int, dict[str, np.ndarray]]] = defaultdict(dict)
    for manifest in sorted((outputs / "artifacts" / "evaluate").glob("*/manifest.json")):
        content = json.loads(manifest.read_text())
        start = next(word for word in ("pretrained", "scratch") if word in content["label"])
        found[start][content["determined_by"]["seed"]] = hits(manifest.parent, tokens)
    seeds = sorted(found["pretrained"].keys() & found["scratch"].keys())
    print(f"seeds {seeds}, all simulated")
    for name in DIRECTIONS:
        rates = {start: np.stack([found[start][seed][name] for seed in seeds]) for start in found}  # (K, n)
        for start, values in rates.items():
            print(f"{name:16} {start:10}", "  ".join(f"{100 * value:.0f} %" for value in values.mean(1)))
        pair = rates["pretrained"], rates["scratch"]
        over = {"pictures": difference_over_pictures(*pair)}
        if len(seeds) > 1:
            over["seeds"] = difference_over_seeds(*(values.mean(1) for values in pair))
        for what, difference in over.items():
            low, high = (100 * end for end in difference.interval)
            gain = f"pretrained - scratch {100 * difference.value:+.1f} points"
            print(f"{name:16} {gain}, 95 % over {what} {low:+.1f} to {high:+.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
