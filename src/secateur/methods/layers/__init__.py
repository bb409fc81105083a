"""Methods that remove whole layers."""
