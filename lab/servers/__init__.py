"""Programs that run on the machines of the lab. Each prints one JSON object per line on what it saw."""
