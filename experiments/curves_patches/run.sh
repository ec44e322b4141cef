export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m +experiment=blur_noise analysis=full seed=0,1,2 logger=none sweep=outputs/studies/analyses
python -m faig_lab task=compare runs=outputs/studies/analyses hydra.run.dir=outputs/compared/analyses
grep -E '^group,|,(area_log|carried|filters_needed|restored_without_target_biases)/' \
  outputs/compared/analyses/metrics.csv > experiments/curves_patches/results.csv
python experiments/figures.py curves outputs/studies/analyses experiments/curves_patches
python experiments/figures.py patches outputs/studies/analyses experiments/curves_patches
