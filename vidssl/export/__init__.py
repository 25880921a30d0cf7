"""What leaves the house: safetensors beside a JSON card, and the way back in. Nothing here runs code from a file."""
