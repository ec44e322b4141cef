export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=laptop attribution=first_look attribution.points=16 attribution.name=faig \
  seed=0,1,2 'analysis.percents=[1,3]' analysis.headline_percent=1 'analysis=[task_vectors,switches]' \
  analysis.studies.task_vectors.iterations=600 'analysis.studies.task_vectors.strengths=[0.5,1]' \
  analysis.studies.switches.iterations=150 'analysis.studies.switches.rivals=[isolation_share]' \
  logger=none sweep=outputs/studies/switches
python -m faig_lab task=compare runs=outputs/studies/switches hydra.run.dir=outputs/compared/switches
grep -E '^group,|,(task_vectors|switches)/' outputs/compared/switches/metrics.csv > experiments/switches/results.csv
python experiments/figures.py task_vectors outputs/studies/switches experiments/switches
python experiments/figures.py switches outputs/studies/switches experiments/switches
