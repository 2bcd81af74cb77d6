"""Exemptions from the bar, each by name, with its reason and its figure. One that no row needs fails a test."""

from .bars import Exemption

EXEMPTIONS: list[Exemption] = []
