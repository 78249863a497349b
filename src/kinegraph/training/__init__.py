"""Training: recipes, data loading, objectives, checkpoints, distributed training."""
