"""Energies of (past, future): low where they fit."""
