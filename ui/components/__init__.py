"""Components that several parts of the page share."""
