"""What the files of a pipeline mean."""
