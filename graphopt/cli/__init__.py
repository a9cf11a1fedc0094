"""The command line: one table of verbs, one module per verb."""
