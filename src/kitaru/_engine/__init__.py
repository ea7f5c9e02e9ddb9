"""Durable execution: procedures that ask, drivers that do, a runner that decides what runs."""
