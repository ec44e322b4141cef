export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise analysis=full seed=0,1,2 logger=none sweep=outputs/studies/analyses
python -m faig_lab task=compare runs=outputs/studies/analyses hydra.run.dir=outputs/compared/analyses
grep -E '^group,|,(boundary)/' \
  outputs/compared/analyses/metrics.csv > experiments/boundary/results.csv
python experiments/figures.py boundary outputs/studies/analyses experiments/boundary
