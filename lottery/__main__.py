"""`python -m lottery` is the command `lottery`."""

from lottery.cli.main import main

main()
