"""PSNR and SSIM of networks on datasets."""
