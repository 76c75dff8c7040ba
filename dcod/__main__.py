"""`python -m dcod`."""

from dcod.cli.command import main

if __name__ == "__main__":
    main()
