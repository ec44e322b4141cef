"""Folders of runs: one run's, a sweep of them, one taken up again, one that several processes share."""
