"""What to replace."""
