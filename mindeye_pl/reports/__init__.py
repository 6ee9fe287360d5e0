"""Results for people: the table in the terminal and the page that holds everything of a run."""
