"""Measures of an output: PSNR, SSIM, gradient maps, isolation. All are pure functions of images."""

from faig_lab.metrics.image_quality import (
    METRICS,
    PSNR_CEILING,
    SSIM_WINDOW,
    as_image,
    bicubic,
    gradient_map,
    luma,
    map_difference,
    output_difference,
    psnr,
    quality,
    restore,
    ssim,
)
from faig_lab.metrics.isolation import EditSums, back, edit_sums, isolation, off, side

__all__ = [
    "METRICS",
    "PSNR_CEILING",
    "SSIM_WINDOW",
    "EditSums",
    "as_image",
    "back",
    "bicubic",
    "edit_sums",
    "gradient_map",
    "isolation",
    "luma",
    "map_difference",
    "off",
    "output_difference",
    "psnr",
    "quality",
    "restore",
    "side",
    "ssim",
]
