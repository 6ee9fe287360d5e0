"""A laboratory's own recordings: files found by their names, checked, and prepared into the working layout."""
