"""What a stack is, read from the program itself without a cloud."""
