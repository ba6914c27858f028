"""What is done for a target, and why."""
