"""A town hall, an ISP box and an internet made of network namespaces, with the real Vigie box between them."""
