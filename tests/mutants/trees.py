"""A private copy of the repository at a commit, in which mutants are planted: a checkout is never changed."""

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    """What a command of git prints."""
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


def copy_of(root: Path, tree: Path, commit: str) -> str:
    """Brings the copy `tree` of the repository `root` to the commit, and returns the commit's name."""
    commit = git(root, "rev-parse", f"{commit}^{{commit}}").strip()
    if not (tree / ".git").exists():
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(root), str(tree)], check=True)
    git(tree, "fetch", "--quiet", "origin", commit)
    git(tree, "checkout", "--quiet", "--force", "--detach", commit)
    git(tree, "clean", "--quiet", "--force", "-d")
    return commit


def text_at(root: Path, commit: str, path: str) -> str | None:
    """The text of a file at a commit, None where there was no such file."""
    try:
        return git(root, "show", f"{commit}:{path}")
    except subprocess.CalledProcessError:
        return None
