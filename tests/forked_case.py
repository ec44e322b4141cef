"""Processes forked from one that has imported what runs and trainings need, so that a process costs what it computes.

There is one such server for all tests of a worker. It finds modules of the environment, not those of tests/.
"""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("faig_lab.cli.study", "faig_lab.report.figures", "faig_lab.report.report", "faig_lab.training.finetuning"),
        *("faig_lab.attribution.methods", "torch._dynamo", "torchmetrics", "wandb", "pytest"),
    ]
)
