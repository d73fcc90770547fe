"""Videos: decoding, upscaling and encoding, everything else copied."""
