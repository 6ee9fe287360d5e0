"""Steps that search a gallery of images."""
