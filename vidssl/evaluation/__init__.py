"""Scores with their protocols, energy tests, speed, and the page that shows them. Reads models, never the reverse."""
