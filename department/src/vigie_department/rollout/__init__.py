"""Firmware rollouts: a signed release goes to the boxes in waves, stops by itself, and is resumable at any instant."""
