# faig_lab for a GPU node. torch from PyPI brings its own CUDA libraries, so the image needs Python alone, and the node
# needs an NVIDIA driver and the NVIDIA container toolkit.
#
#   docker build -t faig-lab .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/outputs:/work/outputs" faig-lab experiment=blur_noise trainer=gpu
#
# Results, trained networks and downloads are in /work. With --user "$(id -u):$(id -g)" files belong to you.
FROM python:3.12-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    HOME=/work

# The dependencies first: a change of the code does not install them again.
WORKDIR /source
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY src/faig_lab/__init__.py src/faig_lab/__init__.py
RUN mkdir conf && pip install -c constraints.txt ".[joblib,submitit]" && pip uninstall --yes faig-lab

COPY src src
COPY conf conf
RUN pip install --no-deps . && mkdir -m 777 /work

WORKDIR /work
ENTRYPOINT ["faig-lab"]
CMD ["--help"]
