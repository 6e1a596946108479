"""What surrounds the tabs: name, theme, address and status bar."""
