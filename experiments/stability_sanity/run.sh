export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise analysis=full seed=0,1,2 logger=none sweep=outputs/studies/analyses
python -m faig_lab task=compare runs=outputs/studies/analyses hydra.run.dir=outputs/compared/analyses
grep -E '^group,|,(stability|sanity)/' \
  outputs/compared/analyses/metrics.csv > experiments/stability_sanity/results.csv
python experiments/figures.py stability outputs/studies/analyses experiments/stability_sanity
python experiments/figures.py sanity outputs/studies/analyses experiments/stability_sanity
