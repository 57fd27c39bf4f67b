"""The engines that run pipelines: Nomad, and one machine standing in for it."""
