"""Video files to clips to batches; and worlds whose futures are known."""
