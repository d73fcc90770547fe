"""Conditions under which a faster path may replace the modules of a network, which stay the definition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def may_bypass(network: nn.Module, x: Tensor, known: frozenset[type[nn.Module]]) -> bool:
    """Whether a path for inference may stand in for a network's modules.

    Not while gradients are wanted, in training mode, while something traces, counts or casts; not with
    weights on another device or in another precision; and not where a module has been hooked or replaced.
    Averages are exempt: their hooks are how tiles share them, and such a path calls them as modules.

    Args:
        network: the modules that would be passed by.
        x: what they would see.
        known: the classes that the path can stand in for.
    """
    # First, so that a compiler folds it.
    if torch.compiler.is_compiling() or torch._C._get_tracing_state():
        return False
    if torch.is_grad_enabled() or network.training or type(x) is not Tensor or not x.numel():
        return False
    if torch.is_autocast_enabled(x.device.type) or is_in_torch_dispatch_mode():
        return False
    if any(parameter.dtype is not x.dtype for parameter in network.parameters()):
        return False
    return is_untouched(network, x, known)


def is_untouched(network: nn.Module, x: Tensor, known: frozenset[type[nn.Module]]) -> bool:
    """Whether the modules of a network are of known classes, without hooks, and on the device of an input."""
    for module in network.modules():
        hooked = module._forward_hooks or module._forward_pre_hooks
        if type(module) not in known or (hooked and not isinstance(module, nn.AdaptiveAvgPool2d)):
            return False
    return all(parameter.device == x.device for parameter in network.parameters())
