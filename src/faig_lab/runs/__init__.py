"""Run folders: one run's, a sweep of them, one taken up again; and the store of trained networks."""
