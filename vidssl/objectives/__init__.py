"""Ways to keep the energy high where there is no data, one a file."""
