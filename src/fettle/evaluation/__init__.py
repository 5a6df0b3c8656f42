"""Many checkpoints over one scoring engine: each sample of each is run once, and never again."""
