export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python experiments/waifu2x.py outputs/waifu2x
python -m faig_lab experiment=real_pair data.test_dir=$DATA/test logger=none \
  hydra.run.dir=outputs/studies/real_pair/straight1
python -m faig_lab experiment=real_pair attribution.path=curve attribution.precision=bfloat16 \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' '~attribution.methods.random' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/curve1
python -m faig_lab experiment=real_pair attribution.granularity=weight attribution.precision=bfloat16 \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' '~attribution.methods.random' \
  data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/weights1
python -m faig_lab experiment=real_pair baseline.weights=outputs/waifu2x/noise0_scale2.0x_model.bin \
  '~attribution.methods.learned_mask' '~attribution.methods.isolation_share' '~attribution.methods.random' \
  attribution.precision=bfloat16 data.test_dir=$DATA/test logger=none hydra.run.dir=outputs/studies/real_pair/near
python -m faig_lab task=compare runs=outputs/studies/real_pair hydra.run.dir=outputs/compared/real_pair
grep -E '^group,|,(psnr|completeness_gap|barrier|isolation|clean_change|share)/' \
  outputs/compared/real_pair/metrics.csv > experiments/real_pair/results.csv
