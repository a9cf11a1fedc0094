"""The command line: one module a verb, imported only when it is the one that was asked for.

A verb's module has two functions: `configure(parser)` adds its arguments, and `run(options, console)` does the work
and returns the exit status. The table of verbs and what surrounds every one of them is in `graphopt.cli.main`.
"""
