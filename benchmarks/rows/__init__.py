"""The rows of ``make bench``: each module measures a few, and yields a ``Result`` for each target."""
