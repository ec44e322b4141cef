"""The report of a run, the page of a comparison, the summary on the terminal and the W&B record."""
