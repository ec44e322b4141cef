export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab experiment=one_vs_two_branch seed=0 'analysis.studies.branches.seeds=[1,2]' logger=none \
  hydra.run.dir=outputs/studies/one_vs_two_branch
python -m faig_lab task=compare runs=outputs/studies/one_vs_two_branch hydra.run.dir=outputs/compared/one_vs_two_branch
grep -E '^group,|,branches/' \
  outputs/compared/one_vs_two_branch/metrics.csv > experiments/one_vs_two_branch/results.csv
python experiments/figures.py one_minus_two outputs/studies/one_vs_two_branch experiments/one_vs_two_branch
cp outputs/studies/one_vs_two_branch/tables/branches*.csv experiments/one_vs_two_branch
