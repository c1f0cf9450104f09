"""The virtual board's expectations on a real board, over its serial console (docs/factory.md)."""
