"""Fixtures of generators: those of the tests of sampling."""

from tests.sampling.conftest import conditional, generator, model

__all__ = ["conditional", "generator", "model"]
