"""A whole network's kernels: its plan, its steps, its trainings."""
