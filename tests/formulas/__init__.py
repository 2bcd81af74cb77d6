"""Random formulas, held against an evaluator that shares no code with the library.

`case` says what a formula under test is, `checked` compares it with its truth, `alike` finds formulas that print alike, `run` tries many,
and `worlds` has a module for each kind of model.
"""
