"""The toxic base: feeds in, one image for the kernel and one compact file for distribution out."""
