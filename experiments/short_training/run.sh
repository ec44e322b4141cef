export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=short,laptop attribution=first_look attribution.points=16 \
  seed=0,1,2 'analysis.percents=[0.5,1]' data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 \
  logger=none sweep=outputs/studies/short_training
python -m faig_lab task=compare runs=outputs/studies/short_training hydra.run.dir=outputs/compared/short_training
grep -E '^group,|,(psnr|barrier|isolation|clean_change)/' \
  outputs/compared/short_training/metrics.csv > experiments/short_training/results.csv
cp outputs/compared/short_training/gains.csv experiments/short_training
