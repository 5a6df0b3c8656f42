"""Pictures of a run."""

from fettle.report.curves import plot_curves

__all__ = ["plot_curves"]
