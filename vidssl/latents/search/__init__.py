"""Ways to find z by searching the energy, one a file."""
