"""What weights do: networks judged on held-out images, by PSNR, removed shares and isolation."""
