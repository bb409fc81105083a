"""Methods that prune weights."""
