"""Evaluation of weights on held-out images by PSNR, removed share and isolation."""
