python -m faig_lab experiment=blur_noise_paper data=folder data.train_dir=$DATA/train data.probe_dir=$DATA/probe \
  data.test_dir=$DATA/test data.test_crops=1 attribution=all attribution.methods.random.draws=3 \
  trainer=auto training.workers=4 training.validate_every=20000 \
  training.baseline.iterations=20000 training.baseline.restart_every=20000 training.baseline.learning_rate=4.0e-4 \
  training.target.iterations=14000 training.target.restart_every=14000 training.target.learning_rate=4.0e-4 \
  logger=none hydra.run.dir=outputs/studies/full_size
python -m faig_lab task=compare runs=outputs/studies/full_size hydra.run.dir=outputs/compared/full_size
grep -E '^group,|,(psnr|completeness_gap|barrier|isolation|clean_change|removed|specificity)/' \
  outputs/compared/full_size/metrics.csv > experiments/full_size/results.csv
cp outputs/studies/full_size/tables/isolation.csv outputs/studies/full_size/tables/isolation_methods.csv \
  outputs/studies/full_size/tables/depth.csv outputs/studies/full_size/tables/masking.csv experiments/full_size
python experiments/figures.py shrink outputs/studies/full_size/figures/isolation.png experiments/full_size
