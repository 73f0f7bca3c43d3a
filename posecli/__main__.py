"""`python -m posecli`, which torchrun starts on every rank."""

from posecli.cli import main

main()
