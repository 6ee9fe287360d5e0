"""Steps that read brains: pretraining, fine-tuning, reconstruction."""
