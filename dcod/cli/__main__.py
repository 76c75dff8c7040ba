"""`python -m dcod.cli`."""

from dcod.cli import main

if __name__ == "__main__":
    main()
