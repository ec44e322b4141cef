"""Slow, plain, independent implementations: what the definitions say, and nothing else.

They load weights into a copy of the network, loop over filters in Python, and share no code with faig_lab.
"""

import copy

import numpy as np
import torch
from torch import nn


def single_faig(network, baseline, target, lr, hr, points):
    """The authors' FAIG of one input, before the contrast: `points` steps from the target, biases included."""
    gradients = dict.fromkeys(target, 0.0)
    net = copy.deepcopy(network)
    for k in range(points):
        share = k / points
        net.load_state_dict({n: share * baseline[n] + (1 - share) * target[n] for n in target})
        net.zero_grad()
        ((net(lr) - hr) ** 2).sum().backward()
        for name, parameter in net.named_parameters():
            gradients[name] = gradients[name] + parameter.grad
    scores = []
    for name in conv_weights(network):
        product = gradients[name] * (baseline[name] - target[name]) / points
        scores += [float(product[o, i].abs().sum()) for o in range(product.shape[0]) for i in range(product.shape[1])]
    return np.array(scores)


def input_gradients(network, target, clean, degraded, points):
    """The authors' IG at the target: |Σ_k dΣF/dW| / points along the line from clean to degraded input."""
    net = copy.deepcopy(network)
    net.load_state_dict(target)
    net.zero_grad()
    for k in range(points):
        net(clean + k / points * (degraded - clean)).sum().backward()
    weights = dict(net.named_parameters())
    scores = []
    for name in conv_weights(network):
        gradient = weights[name].grad / points
        scores += [float(g.abs().sum()) for row in gradient for g in row]
    return np.array(scores)


def weight_change(network, baseline, target):
    """Σ|θ − θ̄| / Σ|θ̄| per filter."""
    scores = []
    for name in conv_weights(network):
        for row, row_before in zip(target[name], baseline[name], strict=True):
            scores += [float((a - b).abs().sum() / b.abs().sum()) for a, b in zip(row, row_before, strict=True)]
    return np.array(scores)


def masked(network, baseline, target, filters):
    """A copy of the target with the given (layer, out, in) slices of the baseline."""
    net = copy.deepcopy(network)
    net.load_state_dict(target)
    with torch.no_grad():
        weights = dict(net.named_parameters())
        for layer, out, in_ in filters:
            weights[layer][out, in_] = baseline[layer][out, in_]
    return net


def psnr(image, truth, border):
    """PSNR in dB of one (3, H, W) image, with NumPy."""
    inside = np.s_[:, border : -border or None, border : -border or None]
    error = np.asarray(image, dtype=np.float64)[inside] - np.asarray(truth, dtype=np.float64)[inside]
    return 10 * np.log10(1 / np.mean(error**2))


def gradient_map(image):
    """√(dx² + dy² + 1e-6) of the grey image (H, W), zero padding, with explicit loops."""
    grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    height, width = grey.shape
    padded = np.pad(grey, 1)
    result = np.empty_like(grey)
    for y in range(height):
        for x in range(width):
            dx = padded[y + 1, x + 2] - padded[y + 1, x]
            dy = padded[y + 2, x + 1] - padded[y, x + 1]
            result[y, x] = np.sqrt(dx * dx + dy * dy + 1e-6)
    return result


def conv_weights(network):
    """Names of convolution weights in the order of the state dict."""
    modules = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return [name for name in network.state_dict() if name in modules]


def edit(masked, baseline, target, own, others, clean=None):
    """Isolation and its parts by the definition of method.md §9, with explicit loops over pixels.

    Args:
        masked, baseline, target: input's name → list of (C, H, W) outputs, not clipped.
        own: the masked degradation; others: the other degradations; clean: the clean input's name, or None.

    Returns:
        isolation, {input: back}, {input: off}, {input: side}.
    """

    def pixels(outputs, name):
        return [min(max(float(v), 0.0), 1.0) for image in outputs[name] for v in np.asarray(image).ravel()]

    def total(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    energy, back, off, side = {}, {}, {}, {}
    names = [own, *others] + ([clean] if clean else [])
    for name in names:
        m, b, t = (pixels(outputs, name) for outputs in (masked, baseline, target))
        energy[name] = total(t, b)
        back[name] = sum((x - z) * (y - z) for x, y, z in zip(m, b, t, strict=True)) / energy[name]
        residual = sum(((x - z) - back[name] * (y - z)) ** 2 for x, y, z in zip(m, b, t, strict=True))
        off[name] = residual / energy[name]
    for name in names:
        side[name] = total(pixels(masked, name), pixels(target, name)) / energy[own]
    left = total(pixels(masked, own), pixels(baseline, own)) / energy[own]
    effects = sum(side[name] for name in others) / max(1, len(others)) + (side[clean] if clean else 0)
    return 1 - (left + effects), back, off, side
