"""Files of public datasets as they are released, and their preparation into the working layout."""
