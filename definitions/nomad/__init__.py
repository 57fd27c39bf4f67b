"""What Nomad's HCL says: job files and ACL policies, read here alone."""
