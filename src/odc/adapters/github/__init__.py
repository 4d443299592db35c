"""Public keys from GitHub."""
