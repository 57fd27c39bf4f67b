"""GKE: clusters, what is in them beside the workloads, and what the workloads may touch."""
