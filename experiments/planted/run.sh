export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab -m experiment=planted seed=0,1,2,3,4 logger=none sweep=outputs/studies/planted
python -m faig_lab task=compare runs=outputs/studies/planted hydra.run.dir=outputs/compared/planted
grep -E '^group,|,(planted|psnr)/' outputs/compared/planted/metrics.csv > experiments/planted/results.csv
python experiments/figures.py planted outputs/studies/planted experiments/planted
