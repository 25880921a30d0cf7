"""Video files and worlds, to clips, to batches. Import from the modules; nothing is re-exported."""
