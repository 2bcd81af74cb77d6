"""Mutants: places of the library's source are changed one at a time, and a change that no test notices is listed."""
