"""Names of the attention in a VAE's middle block before diffusers 0.16, which older checkpoints have."""

_PARTS = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))


def older_attention_names(theirs: str, ours: str) -> dict[str, str]:
    """Older prefixes to today's, for `Renaming`.

    Args:
        theirs: prefix of the encoder's or decoder's keys in the file.
        ours: the same in the project.
    """
    attention = "mid_block.attentions.0"
    return {f"{theirs}{attention}.{old}.": f"{ours}{attention}.{new}." for old, new in _PARTS}
