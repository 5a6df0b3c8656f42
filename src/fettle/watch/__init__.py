"""The live view of one run in a terminal: what the run folder says, and nothing else."""
