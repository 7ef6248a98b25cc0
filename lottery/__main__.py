"""`python -m lottery` is the command `lottery`."""

from lottery.cli import main

main()
