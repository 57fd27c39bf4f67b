"""What a stack has of Google Cloud beneath both engines."""
