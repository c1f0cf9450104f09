"""Bundles: the file that RAUC installs.

manifest       the text that is signed: board, version, digests of the images, root of the hash tree
container      how payload, hash tree and signature lie in the file
certificates   the release authority and certificate, offline
cms            the signature
build          from the image build's folder to a bundle, the same bytes each time
verify         everything that can be checked without a box
"""
