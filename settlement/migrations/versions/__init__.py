"""One module per schema version, oldest first by its ``revision``."""
