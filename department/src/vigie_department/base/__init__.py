"""The toxic base: from feeds with a right of redistribution to waves of boxes."""
