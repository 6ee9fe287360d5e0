"""Networks: plain PyTorch, one idea a file."""
