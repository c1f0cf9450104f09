"""Releases: descriptor, the request to keyholders, their signatures, the way into the repository.

descriptor   from verified bundles to `firmware/<version>.json`; what may follow what
request      what is carried to the keyholders, what they see, and what they give back
publishing   bundles, then the descriptor, then the metadata
shown        what is published
"""
