"""Training on a GPU."""

__all__: list[str] = []
