"""Values into bytes and back."""
