"""Ways to limit a latent z, one a file."""
