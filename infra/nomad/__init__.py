"""Nomad on n1 machines that the stack provisions, and what is in it before the first job."""
