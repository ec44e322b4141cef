export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise analysis=full seed=0,1,2 logger=none sweep=outputs/studies/analyses
python -m faig_lab -m +experiment=blur_noise 'analysis=[sanity,modulation]' seed=0,1,2 \
  data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 logger=none sweep=outputs/studies/judged
python -m faig_lab task=compare runs=outputs/studies/analyses hydra.run.dir=outputs/compared/analyses
python -m faig_lab task=compare runs=outputs/studies/judged hydra.run.dir=outputs/compared/judged
grep -E '^group,|,stability/' outputs/compared/analyses/metrics.csv > experiments/stability_sanity/results.csv
grep -E ',sanity/' outputs/compared/judged/metrics.csv >> experiments/stability_sanity/results.csv
python experiments/figures.py stability outputs/studies/analyses experiments/stability_sanity
python experiments/figures.py sanity outputs/studies/judged experiments/stability_sanity
