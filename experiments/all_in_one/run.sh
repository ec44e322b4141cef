export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=all_in_one attribution=first_look attribution.points=16 seed=0,1,2 \
  'analysis.percents=[0.5,1,3]' data.test_dir=$DATA/test data.test_crop=96 data.test_crops=1 \
  logger=none sweep=outputs/studies/all_in_one
python -m faig_lab task=compare runs=outputs/studies/all_in_one hydra.run.dir=outputs/compared/all_in_one
grep -E '^group,|,(psnr|barrier|completeness_gap|isolation|clean_change)/' \
  outputs/compared/all_in_one/metrics.csv > experiments/all_in_one/results.csv
cp outputs/compared/all_in_one/gains.csv experiments/all_in_one
python experiments/figures.py shrink outputs/studies/all_in_one/0/figures/isolation.png experiments/all_in_one
