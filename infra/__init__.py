"""The Pulumi program: what a stack provisions and registers."""
