export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=blur_noise training=laptop attribution=ideas attribution.methods.random.draws=1 \
  seed=0,1,2 'analysis.percents=[0.1,0.2,0.5,1,3]' analysis=clusters \
  'analysis.studies.clusters.methods=[isolation_share,random]' logger=none sweep=outputs/studies/clusters
python -m faig_lab task=compare runs=outputs/studies/clusters hydra.run.dir=outputs/compared/clusters
grep -E '^group,|,clusters/' outputs/compared/clusters/metrics.csv > experiments/clusters/results.csv
python experiments/figures.py clusters outputs/studies/clusters experiments/clusters
