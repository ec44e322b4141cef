export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise_jpeg seed=0,1,2 logger=none sweep=outputs/studies/blur_noise_jpeg
python -m faig_lab task=compare runs=outputs/studies/blur_noise_jpeg hydra.run.dir=outputs/compared/blur_noise_jpeg
grep -E '^group,|,(psnr|completeness_gap|removed|specificity)/' \
  outputs/compared/blur_noise_jpeg/metrics.csv > experiments/blur_noise_jpeg/results.csv
cp outputs/compared/blur_noise_jpeg/means.csv outputs/compared/blur_noise_jpeg/differences.csv \
  outputs/compared/blur_noise_jpeg/gains.csv outputs/compared/blur_noise_jpeg/specificity.png experiments/blur_noise_jpeg
