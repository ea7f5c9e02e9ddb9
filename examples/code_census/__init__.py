"""A census of Python source: a durable flow over some thousand real files."""
