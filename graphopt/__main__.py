"""`python -m graphopt` is the command line."""

from graphopt.cli.main import run_process

run_process()
