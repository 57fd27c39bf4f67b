"""What the files of a pipeline mean: read once, checked, typed. It deliberately knows no resource and no engine."""
