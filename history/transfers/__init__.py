"""What goes in and out of the history: where imported pictures come from, and the listing of an export."""
