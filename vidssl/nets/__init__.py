"""Networks: tensors in, tensors out. No losses, no randomness, no data."""
