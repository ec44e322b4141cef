export OMP_NUM_THREADS=1 # as it was recorded; another number of threads rounds differently
python -m faig_lab experiment=first_look training=laptop baseline.weights=null target.weights=null data.test_crops=2 \
  attribution.points=16 logger=none hydra.run.dir=outputs/studies/first_look/float32
python experiments/pretrained.py write outputs/studies/first_look/float32 src/faig_lab/pretrained
python -m faig_lab experiment=first_look data.test_crops=2 \
  attribution.points=16 logger=none hydra.run.dir=outputs/studies/first_look/float16
python experiments/pretrained.py compare outputs/studies/first_look/float32 outputs/studies/first_look/float16 \
  src/faig_lab/pretrained experiments/first_look/results.csv
