"""``python -m kitaru`` is the command ``kitaru``."""

from kitaru.cli import main

if __name__ == "__main__":
    main()
