"""The benchmark: each figure beside the limit of this machine, measured in the same minute.

``python -m bench`` prints the table; README.md beside this file explains its
rows. Nothing here asserts a speed: a busy machine is not a broken program.
"""
