"""Model versions in a bucket: store, list, verify, promote, predict. Imports nothing of Pulumi."""
