export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python experiments/waifu2x.py outputs/waifu2x
python -m faig_lab experiment=real_pair target.weights=outputs/waifu2x/noise1_scale2.0x_model.bin \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/straight1
python -m faig_lab experiment=real_pair target.weights=outputs/waifu2x/noise2_scale2.0x_model.bin \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/straight2
python -m faig_lab experiment=real_pair target.weights=outputs/waifu2x/noise3_scale2.0x_model.bin \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/straight3
python -m faig_lab experiment=real_pair target.weights=outputs/waifu2x/noise1_scale2.0x_model.bin \
  attribution.path=curve attribution.curve_steps=150 '~attribution.methods.random' \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/curve1
python -m faig_lab experiment=real_pair target.weights=outputs/waifu2x/noise1_scale2.0x_model.bin \
  attribution.granularity=weight '~attribution.methods.random' '~attribution.methods.isolation_share' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/weights1
python -m faig_lab experiment=real_pair baseline.weights=outputs/waifu2x/noise0_scale2.0x_model.bin \
  target.weights=outputs/waifu2x/noise1_scale2.0x_model.bin '~attribution.methods.isolation_share' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/near
python -m faig_lab task=compare runs=outputs/studies/real_pair hydra.run.dir=outputs/compared/real_pair
grep -E '^group,|,(psnr|completeness_gap|barrier|isolation|clean_change)/' \
  outputs/compared/real_pair/metrics.csv > experiments/real_pair/results.csv
