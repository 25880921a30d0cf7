"""Scores of a model: pixels, sets of futures, energies against wrong futures, truth in worlds; and pages that show them."""
