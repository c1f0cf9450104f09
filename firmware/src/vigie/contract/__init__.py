"""The contract: numbers, topics and schemas. The only part of `vigie` that the department side imports."""
