"""Training: models, exact gradients, exact evaluation, checkpoints."""
