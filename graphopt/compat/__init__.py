"""Names and arguments that people already use, on top of graphopt."""
