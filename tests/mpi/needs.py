"""Needs: tests of launchers that a machine may lack."""

import pytest

from benchmarks.lab.jobs import lacking


def need(launcher: str) -> pytest.MarkDecorator:
    """Skip, saying why, where this machine lacks the launcher."""
    return pytest.mark.skipif(lacking(launcher) is not None, reason=lacking(launcher) or "")
