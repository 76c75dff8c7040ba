"""`python -m dcod.cli`."""

from dcod.cli import main

main()
