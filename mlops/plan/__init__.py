"""What a change does to a stack, read from the program itself without a cloud."""
