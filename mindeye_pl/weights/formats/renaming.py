"""Two-way renaming of state-dict keys."""

import re
from collections.abc import Mapping

from torch import Tensor

#: Prefixes of `torch.compile`, anywhere in a name, and of data-parallel training, at the start of all names.
_COMPILED, _PARALLEL = "_orig_mod.", "module."


class Renaming:
    """Exchanges prefixes of keys in both directions, given as published prefix to the project's own.

    `{i}` and `{j}` stand for numbers, the same on both sides. Where several prefixes fit, the longest one counts, and a
    given number before `{i}`.
    """

    def __init__(self, prefixes: Mapping[str, str]):
        self._to_own = _rules(prefixes)
        self._to_published = _rules({own: published for published, own in prefixes.items()})

    def to_own(self, key: str) -> str | None:
        """Return the project's key for a published one, None if no prefix fits."""
        return _rename(key, self._to_own)

    def to_published(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights under their published names; every key must have one."""
        published = {}
        for key, value in state.items():
            renamed = _rename(key, self._to_published)
            assert renamed is not None, key
            published[renamed] = value
        return published


def numbered(key: str) -> str:
    """Return the regular expression of a key in which `{i}` and `{j}` stand for numbers."""
    return re.sub(r"\\{([ij])\\}", r"(?P<\1>\\d+)", re.escape(key))


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return one more than the largest number at `{i}` in keys of this prefix, 0 without such a key."""
    pattern = re.compile(numbered(prefix))
    return max((int(match["i"]) for key in state if (match := pattern.match(key))), default=-1) + 1


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes of torch's wrappers, which a checkpoint of the wrapped module has.

    `torch.compile` writes `_orig_mod.` before the names of the module that it compiled, DistributedDataParallel and
    DataParallel write `module.` before all names. Two names that become one stay as they are.
    """
    names = {key: key.replace(_COMPILED, "") for key in state}
    while names and all(name.startswith(_PARALLEL) for name in names.values()):
        names = {key: name.removeprefix(_PARALLEL) for key, name in names.items()}
    unique = len(set(names.values())) == len(names)
    return {names[key] if unique else key: value for key, value in state.items()}


def older_attention_names(theirs: str, ours: str) -> dict[str, str]:
    """Return prefixes of the attention in a VAE's middle block before diffusers 0.16, with the project's."""
    parts = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
    attention = "mid_block.attentions.0"
    return {f"{theirs}{attention}.{old}.": f"{ours}{attention}.{new}." for old, new in parts}


def _rules(prefixes: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    def precedence(old: str) -> tuple[int, int]:
        return -len(re.sub(r"\{[ij]\}", "0", old)), old.count("{")

    return [
        (re.compile(numbered(old)), re.sub(r"\{([ij])\}", r"\\g<\1>", prefixes[old]))
        for old in sorted(prefixes, key=precedence)
    ]


def _rename(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.match(key):
            return match.expand(replacement) + key[match.end() :]
    return None
