export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=laptop attribution=ideas attribution.methods.random.draws=1 seed=0,1,2 \
  'analysis.percents=[0.1,0.2,0.5,1,3]' data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 \
  logger=none sweep=outputs/studies/rankings
python -m faig_lab task=compare runs=outputs/studies/rankings hydra.run.dir=outputs/compared/rankings
grep -E '^group,|,(isolation|clean_change)/' outputs/compared/rankings/metrics.csv > experiments/rankings/results.csv
cp outputs/compared/rankings/means.csv outputs/compared/rankings/differences.csv \
  outputs/compared/rankings/isolation.png experiments/rankings
