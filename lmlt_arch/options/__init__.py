"""Option files: what may stand in them, as typed structures, and what is said where something is wrong."""

from lmlt_arch.options.train import GradientPenalty, Train

__all__ = ["GradientPenalty", "Train"]
