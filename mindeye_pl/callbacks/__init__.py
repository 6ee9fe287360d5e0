"""What happens around epochs: seeds, history, checkpoints, words."""
