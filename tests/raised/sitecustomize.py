"""Python imports this module when it starts, if its folder is on PYTHONPATH: so in the child processes of the tests too."""

import os

if path := os.environ.get("PIXYZ_RAISED"):
    import raise_statements

    raise_statements.record(path)
