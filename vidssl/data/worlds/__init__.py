"""Worlds: video whose futures and their probabilities are known exactly."""
