"""What is refused while wiring, and how it is said."""
