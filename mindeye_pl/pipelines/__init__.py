"""One readable function for each step, and the run that orders them."""
