"""Figures of speed and size, each with its baseline from the same run: `vmglue bench`."""

from clients.bench.figure import Figure
from clients.bench.main import FIGURES, main

__all__ = ["FIGURES", "Figure", "main"]
