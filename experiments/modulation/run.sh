export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise 'analysis=[sanity,modulation]' seed=0,1,2 \
  data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 logger=none sweep=outputs/studies/judged
python -m faig_lab task=compare runs=outputs/studies/judged hydra.run.dir=outputs/compared/judged
grep -E '^group,|,(best_strength)/' outputs/compared/judged/metrics.csv > experiments/modulation/results.csv
python experiments/figures.py modulation outputs/studies/judged experiments/modulation
