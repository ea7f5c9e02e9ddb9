def unfinished(:
    """A function whose signature was never closed."""
