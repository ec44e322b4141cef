"""A plain writer of ncnn's two files and a plain forward pass of what they hold, independent of faig_lab and of torch.

The kernels stand here as they do in the file: (out, in, height, width) for both kinds of layers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import correlate2d

FLOAT16, FLOAT32 = b"\x47\x6b\x30\x01", b"\x00\x00\x00\x00"


@dataclass
class Layer:
    """A layer with weights; `kind` is ncnn's name of its type."""

    kind: str
    name: str
    kernel: np.ndarray
    bias: np.ndarray | None
    tag: bytes = FLOAT16

    def line(self) -> str:
        out, _, height, width = self.kernel.shape
        values = (
            f"0={out} 1={width} 11={height} 3={1 if self.kind == 'Convolution' else 2} 5={int(self.bias is not None)}"
        )
        activation = "9=2 -23310=1,0.100000" if self.kind == "Convolution" else "4=3"
        blobs = f"1 1 {self.name}_in {self.name}_out"
        return f"{self.kind:<24} {self.name:<8} {blobs} {values} 6={self.kernel.size} {activation}"

    def content(self) -> bytes:
        numbers = self.kernel.astype("<f2" if self.tag == FLOAT16 else "<f4").tobytes()
        padding = b"\x7f" * (-len(numbers) % 4)  # no number of the file
        return self.tag + numbers + padding + (b"" if self.bias is None else self.bias.astype("<f4").tobytes())


def some_layers(widths=(4, 5), seed=0):
    """The layers of an upconv_7 with these widths: numbers that float16 holds, biases that it does not."""
    rng = np.random.default_rng(seed)
    shapes = [(after, before, 3, 3) for before, after in zip((3, *widths), widths, strict=False)] + [
        (3, widths[-1], 4, 4)
    ]
    layers = []
    for number, shape in enumerate(shapes, start=1):
        kernel = rng.normal(0, 0.3, shape).astype(np.float16)
        kind = "Convolution" if number < len(shapes) else "Deconvolution"
        layers.append(Layer(kind, f"conv{number}_layer", kernel, rng.normal(0, 0.1, shape[0]).astype(np.float32)))
    return layers


def write(folder: Path, layers, name="a", more=()) -> Path:
    """Write both files; the path of the `.bin` file. `more`: further lines, put behind the first layer."""
    lines = [layer.line() for layer in layers]
    lines = ["Input input 0 1 data 0=8 1=8 2=3", *lines[:1], *more, *lines[1:]]
    text = "\n".join(["7767517", f"{len(lines)} {len(lines)}", *lines]) + "\n"
    (folder / f"{name}.param").write_text(text)
    (folder / f"{name}.bin").write_bytes(b"".join(layer.content() for layer in layers))
    return folder / f"{name}.bin"


def forward(layers, lr: np.ndarray) -> np.ndarray:
    """(3, H, W) → (3, 2H, 2W) in float64: correlation for convolutions, a sum of placed kernels for the last layer."""
    x = np.pad(lr.astype(np.float64), ((0, 0), *[(len(layers), len(layers))] * 2), mode="edge")
    for layer in layers[:-1]:
        kernel = layer.kernel.astype(np.float64)
        x = np.stack(
            [
                sum(correlate2d(x[i], kernel[o, i], "valid") for i in range(len(x))) + layer.bias[o]
                for o in range(len(kernel))
            ]
        )
        x = np.where(x > 0, x, 0.1 * x)
    kernel = layers[-1].kernel.astype(np.float64)
    _, height, width = x.shape
    whole = np.zeros((len(kernel), 2 * height + 2, 2 * width + 2))
    for row in range(height):
        for column in range(width):
            placed = np.tensordot(kernel, x[:, row, column], axes=([1], [0]))
            whole[:, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += placed
    return whole[:, 3:-3, 3:-3] + layers[-1].bias[:, None, None].astype(np.float64)
