export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise_jpeg attribution=all 'analysis.percents=[0.2,0.5,1,3]' seed=0,1,2 \
  data.test_dir=$DATA/test data.test_crop=96 data.test_crops=1 logger=none sweep=outputs/studies/blur_noise_jpeg
python -m faig_lab task=compare runs=outputs/studies/blur_noise_jpeg hydra.run.dir=outputs/compared/blur_noise_jpeg
grep -E '^group,|,(psnr|completeness_gap|isolation|clean_change)/' \
  outputs/compared/blur_noise_jpeg/metrics.csv > experiments/blur_noise_jpeg/results.csv
cp outputs/compared/blur_noise_jpeg/means.csv outputs/compared/blur_noise_jpeg/differences.csv \
  outputs/compared/blur_noise_jpeg/gains.csv experiments/blur_noise_jpeg
python experiments/figures.py shrink outputs/compared/blur_noise_jpeg/isolation.png experiments/blur_noise_jpeg
