"""Durable execution for plain Python."""
