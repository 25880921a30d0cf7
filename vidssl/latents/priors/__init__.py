"""Priors that are fitted to the codes of a frozen model, one a file."""
