"""Training under Lightning: the task, checkpoints that survive, callbacks that look and never touch."""
