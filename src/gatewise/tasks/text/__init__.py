"""What applications on text share: reading it, and cutting it into tokens."""
