export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab experiment=blur_noise training=laptop data=folder data.train_dir=$DATA/train data.probe_dir=$DATA/probe \
  data.test_dir=$DATA/test data.test_crops=1 network=srresnet network.features=32 network.blocks=16 \
  training.baseline.iterations=4000 training.baseline.restart_every=4000 \
  training.target.iterations=4000 training.target.restart_every=4000 \
  logger=none hydra.run.dir=outputs/studies/larger
python -m faig_lab task=compare runs=outputs/studies/larger hydra.run.dir=outputs/compared/larger
grep -E '^group,|,(psnr|completeness_gap|removed|specificity|specificity_low|specificity_high)/' \
  outputs/compared/larger/metrics.csv > experiments/larger/results.csv
cp outputs/studies/larger/tables/comparison.csv outputs/studies/larger/tables/comparison_paired.csv \
  outputs/studies/larger/figures/methods.png experiments/larger
