export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=laptop attribution=all network=srresnet_small,srcnn_style_small seed=0,1,2 \
  'analysis.percents=[0.05,0.1,0.2,0.5,1,3,5,10]' data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 \
  logger=none sweep=outputs/studies/blur_noise
python -m faig_lab task=compare runs=outputs/studies/blur_noise hydra.run.dir=outputs/compared/blur_noise
grep -E '^group,|,(psnr|completeness_gap|barrier|isolation|clean_change|removed|specificity)/' \
  outputs/compared/blur_noise/metrics.csv > experiments/blur_noise/results.csv
cp outputs/compared/blur_noise/means.csv outputs/compared/blur_noise/differences.csv \
  outputs/compared/blur_noise/distances.csv outputs/compared/blur_noise/gains.csv \
  experiments/blur_noise
python experiments/figures.py shrink outputs/compared/blur_noise/isolation.png experiments/blur_noise
python experiments/figures.py depth outputs/studies/blur_noise experiments/blur_noise
