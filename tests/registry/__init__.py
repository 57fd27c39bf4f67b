"""The registry, on a real bucket."""
