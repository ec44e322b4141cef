export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=laptop analysis=full seed=0,1,2 logger=none sweep=outputs/studies/analyses
python -m faig_lab -m experiment=blur_noise training=laptop 'analysis=[sanity,modulation]' seed=0,1,2 \
  data.test_dir=$DATA/test data.test_crop=128 data.test_crops=1 logger=none sweep=outputs/studies/judged
python -m faig_lab task=compare runs=outputs/studies/analyses hydra.run.dir=outputs/compared/analyses
python -m faig_lab task=compare runs=outputs/studies/judged hydra.run.dir=outputs/compared/judged
grep -E '^group,|,(retrained)/' outputs/compared/analyses/metrics.csv > experiments/analyses/retraining_results.csv
grep -E '^group,|,(prediction)/' outputs/compared/analyses/metrics.csv > experiments/analyses/prediction_results.csv
grep -E '^group,|,(boundary)/' outputs/compared/analyses/metrics.csv > experiments/analyses/boundary_results.csv
grep -E '^group,|,(area_log|carried|filters_needed|restored_without_target_biases)/' \
  outputs/compared/analyses/metrics.csv > experiments/analyses/curves_patches_results.csv
grep -E '^group,|,(best_strength)/' outputs/compared/judged/metrics.csv > experiments/analyses/modulation_results.csv
grep -E '^group,|,stability/' outputs/compared/analyses/metrics.csv > experiments/analyses/stability_sanity_results.csv
grep -E ',sanity/' outputs/compared/judged/metrics.csv >> experiments/analyses/stability_sanity_results.csv
python experiments/figures.py retraining outputs/studies/analyses experiments/analyses
python experiments/figures.py prediction outputs/studies/analyses experiments/analyses
python experiments/figures.py boundary outputs/studies/analyses experiments/analyses
python experiments/figures.py curves outputs/studies/analyses experiments/analyses
python experiments/figures.py patches outputs/studies/analyses experiments/analyses
python experiments/figures.py stability outputs/studies/analyses experiments/analyses
python experiments/figures.py sanity outputs/studies/judged experiments/analyses
python experiments/figures.py modulation outputs/studies/judged experiments/analyses
