"""A fault in the library, for as long as a test runs."""


def planted(monkeypatch, owner, name, make):
    """Replaces `owner.name` by `make(original)`, a static method where the original is one."""
    original = getattr(owner, name)
    fault = make(original)
    static = isinstance(owner, type) and isinstance(owner.__dict__.get(name), staticmethod)
    monkeypatch.setattr(owner, name, staticmethod(fault) if static else fault)
