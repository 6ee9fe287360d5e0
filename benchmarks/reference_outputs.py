"""Digests of everything that runs below a folder of outputs made, and their comparison.

    python benchmarks/reference_outputs.py digest outputs > before.json
    python benchmarks/reference_outputs.py compare before.json after.json

Weights, tokens and images are compared by the bytes of each tensor, scores by their values. Artifacts are matched by
step and label, so fingerprints and the names of folders may differ. Make both runs on one machine, on one thread
(`OMP_NUM_THREADS=1`): other processors and thread counts round differently.
"""

import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

#: Names that changed, as (pattern, replacement), so that outputs of revisions on both sides can be compared.
RENAMED = (
    *(("evaluate_pictures", "evaluate_reconstructions"), ("pictures", "images"), ("picture", "image")),
    *(("to_image.", "to_rgb."), ("from_image.", "from_rgb.")),
)

#: Fields of json files that differ between equal runs: times, versions and paths.
IGNORED = {
    "seconds",
    "trials_per_second",
    "peak_memory_gb",
    "finished_utc",
    "made_with",
    "sha256",
    "files",
    "fingerprint",
}


def digest(outputs: Path) -> dict[str, str]:
    """Return a digest for every tensor and score, by artifact, file and name; of all artifacts that share a name."""
    found: dict[str, set[str]] = defaultdict(set)
    of_artifact = systems(outputs)
    for folder in sorted((outputs / "artifacts").glob("*/[!.]*")):
        label = folder.name.rpartition("-")[0]
        manifest = json.loads((folder / "manifest.json").read_bytes())
        name = renamed(f"{folder.parent.name}/{label}/{of_artifact[manifest['fingerprint']]}")
        for path in sorted(folder.rglob("*")):
            file = renamed(path.relative_to(folder).as_posix())
            if path.suffix == ".safetensors":
                digests = tensors(path)
            elif path.name in ("scores.json", "captions.json", "history.json", "recall.json"):
                digests = dict(leaves(json.loads(path.read_bytes())))
            else:
                continue
            for key, value in digests.items():
                found[f"{name}/{file}:{renamed(key)}"].add(value)
    return {key: " and ".join(sorted(values)) for key, values in found.items()}


def systems(outputs: Path) -> dict[str, str]:
    """Return the system that each artifact belongs to by its fingerprint, its own or that of what it is made from."""
    manifests = [json.loads(path.read_bytes()) for path in (outputs / "artifacts").glob("*/[!.]*/manifest.json")]
    found: dict[str, str] = {}
    for manifest in manifests:
        classes = re.findall(r"\b(MindEye1|MindEye2|MindReader)\b", json.dumps(manifest["determined_by"]))
        found[manifest["fingerprint"]] = classes[0] if classes else ""
    for _ in range(4):  # the longest way from a model to its scores
        for manifest in manifests:
            above = [found.get(value, "") for value in manifest["inputs"].values()]
            found[manifest["fingerprint"]] = found[manifest["fingerprint"]] or next(filter(None, above), "")
    return found


def renamed(name: str) -> str:
    """Return a name with the changes of `RENAMED`."""
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def tensors(path: Path) -> dict[str, str]:
    """Return a digest of each tensor's shape, dtype and bytes."""
    with safe_open(path, framework="numpy") as file:
        arrays = {key: np.ascontiguousarray(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
    return {
        key: f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
        for key, array in arrays.items()
    }


def leaves(value: Any, above: str = "") -> list[tuple[str, str]]:
    """Return every leaf of a json value by its path."""
    if isinstance(value, dict):
        items = [(key, item) for key, item in value.items() if key not in IGNORED]
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return [(above, renamed(json.dumps(value)))]
    return [leaf for key, item in items for leaf in leaves(item, f"{above}/{renamed(str(key))}")]


def compare(before: dict[str, str], after: dict[str, str]) -> int:
    """Print every difference; return their number."""
    missing, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    changed = [key for key in before.keys() & after.keys() if before[key] != after[key]]
    for title, keys in (("missing", missing), ("new", new), ("changed", sorted(changed))):
        for key in keys:
            print(f"{title}: {key} {before.get(key, '')} -> {after.get(key, '')}")
    print(f"{len(before)} before, {len(after)} after: {len(changed)} changed, {len(missing)} missing, {len(new)} new")
    return len(changed) + len(missing) + len(new)


if __name__ == "__main__":
    command, *files = sys.argv[1:]
    if command == "digest":
        print(json.dumps(digest(Path(files[0])), indent=0))
    else:
        before, after = (json.loads(Path(file).read_bytes()) for file in files)
        sys.exit(compare(before, after) > 0)
