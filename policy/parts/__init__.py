"""Where rules look: what is inside of a resource, an engine a file."""
