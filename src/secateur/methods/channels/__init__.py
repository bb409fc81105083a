"""Methods that remove channels, heads and other coupled units."""
