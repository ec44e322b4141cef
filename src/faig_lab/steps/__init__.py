"""The steps of the pipeline: what `faig_lab.pipeline` puts a run together from."""
