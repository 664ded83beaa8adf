# Everything a person does with this repository; .ci/run calls the same targets.
PYTHON ?= python3
VENV := .venv
LIGHT := .venv-light
LOWEST := .venv-lowest
LOWEST_EXTRAS := train cpu openvino sign dicom cluster
NODE := .node
BENCH := .bench
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SHARED ?= ../shared/data
COMMA := ,
# Whole files of tests to each worker, so that what a file prepares is made once. One worker more
# than cores: tests wait for browsers, for workers that start and for what was killed.
PARALLEL = --numprocesses $(shell PYTHONPATH=src $(PYTHON) -c \
	'from vol3dseg.machine import usable_cores; print(usable_cores() + 1)') --dist loadfile

# Every target with a line of help is none that makes a file of its name.
.PHONY: $(shell sed -nE 's/^([a-z-]+):.*## .*/\1/p' $(MAKEFILE_LIST))

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

setup: $(VENV)/.ready  ## Make .venv with everything, for training and development

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) --editable '.[train,cpu,openvino,dicom,sign,tensorboard,cluster,dev]'
	touch $@

# The package as a user installs it, from a wheel and without TensorFlow: types, imports and the
# tests of deployment are checked here, since an editable install hides the mapped folders.
$(LIGHT)/.ready: pyproject.toml constraints.txt $(shell find src cli export configs -name '*.py' -o -name '*.yaml')
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python $(PIP_INSTALL) '.[cpu,openvino,evaluate,sign]' build hypothesis import-linter mypy pytest \
		pytest-xdist setuptools types-PyYAML
	rm -rf build
	$(LIGHT)/bin/python $(PIP_INSTALL) --force-reinstall --no-deps .
	touch $@

# The lowest version of each package that pyproject.toml allows; what these ask for is the newest.
$(LOWEST)/.ready: pyproject.toml tests/lowest.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check packaging
	$(LOWEST)/bin/python -m tests.lowest $(LOWEST_EXTRAS) > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LOWEST)/lowest.txt \
		--editable '.[$(subst $() $(),$(COMMA),$(LOWEST_EXTRAS))]' hypothesis pytest pytest-xdist
	touch $@

node: $(NODE)/.ready  ## Get onnxruntime for Node.js, which runs standalone graphs in the tests

# Its install script would fetch more than the tests need.
$(NODE)/.ready: Makefile
	npm install --prefix $(NODE) --ignore-scripts --no-audit --no-fund --silent onnxruntime-node@1.30.0
	touch $@

demo: setup  ## Run the whole line on phantoms
	$(VENV)/bin/vol3dseg demo

test: setup  ## Run the tests that take seconds
	$(VENV)/bin/python -m pytest -m "not slow and not gpu and not alone and not elsewhere" $(PARALLEL) $(PYTEST_OPTIONS)
	$(VENV)/bin/python -m pytest -m "alone and not slow and not gpu and not elsewhere" $(PYTEST_OPTIONS)

test-slow: setup  ## Run the tests that take minutes
	$(VENV)/bin/python -m pytest -m "slow and not gpu"

catalogue-page: setup  ## Write docs/bad-inputs.md from the rows in tests/catalogue
	$(VENV)/bin/python -m tests.catalogue.page

oracle: setup $(BENCH)/oracle/.ready  ## Hold scores against those of others, write the tables of docs/metrics.md; some 3 minutes
	$(VENV)/bin/python -m pytest -m oracle --no-skips
	$(VENV)/bin/python -m tests.oracle.page

# Python before 3.12 cannot start to trace two threads at once, and says so as if a test had failed.
coverage: setup  ## Which lines and branches of the package the tests reach: 95 % at least; some half an hour
	$(VENV)/bin/python -m coverage erase
	$(VENV)/bin/python -m coverage run -m pytest -m "not slow and not gpu and not alone and not elsewhere" $(PARALLEL) \
		-W 'ignore:Exception ignored in thread started by:pytest.PytestUnraisableExceptionWarning'
	$(VENV)/bin/python -m coverage combine --quiet
	$(VENV)/bin/python -m coverage report

check-gpu: setup  ## Run the predictor's tests on CUDA; skips without a GPU
	$(VENV)/bin/python -m pytest -m gpu

format: setup  ## Format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lint: setup  ## Check format and style
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(LIGHT)/.ready  ## Check types of the installed package
	$(LIGHT)/bin/mypy --strict -p vol3dseg

imports: $(LIGHT)/.ready  ## Check that arrows point one way
	$(LIGHT)/bin/lint-imports --no-cache

light: $(LIGHT)/.ready  ## Run the tests of deployment where TensorFlow is absent
	$(LIGHT)/bin/python -m pytest -m "not train and not anywhere and not slow and not gpu and not alone and not elsewhere" \
		$(PARALLEL)

test-lowest: $(LOWEST)/.ready  ## Run the quick tests with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -m "not slow and not gpu and not alone and not elsewhere" $(PARALLEL)

check: lint types imports test light  ## All of the above that CI runs

trial-hippocampus: setup  ## Train on the hippocampus cases with a test part; about 25 minutes
	$(VENV)/bin/python -m benchmarks.trial_hippocampus $(SHARED)/hippocampus

trial-crops: setup  ## Train on the BraTS crops, predict the two whole cases
	$(VENV)/bin/python -m benchmarks.trial_crops $(SHARED)/brats20-crops $(SHARED)/brats

trial-report: setup  ## Train the report's four iterations and ours on the BraTS crops; about an hour
	$(VENV)/bin/python -m benchmarks.trial_report $(SHARED)/brats20-crops

trial-inspect: setup  ## Plant bad cases among the BraTS crops and count how many inspect finds
	$(VENV)/bin/python -m benchmarks.trial_inspect $(SHARED)/brats20-crops

trial-guard: setup  ## Spoil scans in several ways and count how many predict would notice; some 5 minutes
	$(VENV)/bin/python -m benchmarks.trial_guard crops32 $(SHARED)/brats20-crops
	$(VENV)/bin/python -m benchmarks.trial_guard hippocampus $(SHARED)/hippocampus

trial-memory: setup  ## Measure the peak of batches of 16 and 32 beside the estimate; some 15 minutes
	$(VENV)/bin/python -m benchmarks.memory trials/memory

trial-faults: setup  ## Make writing, reading and living fail at every step of six commands, and count what is lost
	$(VENV)/bin/python -m benchmarks.faults $(FAULTS)

trial-limits: setup  ## Hold the peak of predict against --max-memory, over scans, runtimes, precisions; an hour or two
	$(VENV)/bin/python -m benchmarks.limits trials/limits

trial-cluster: setup  ## 200 cases on a Dask cluster, a worker killed; two workers against one; some two minutes on two quiet cores
	$(VENV)/bin/python -m benchmarks.trial_cluster

trial-determinism: setup  ## Labels over runs, threads, processes, runtimes: make trial-determinism MODEL=... DATASET=...
	$(VENV)/bin/python -m benchmarks.determinism $(MODEL) $(DATASET)

trial-first-hour: setup  ## Type docs/own-data.md, on renamed hippocampus cases; some 5 minutes
	$(VENV)/bin/python -m benchmarks.first_hour $(SHARED)/hippocampus

trial-accuracy: setup  ## Cross-validate on the hippocampus cases, five folds; some hour and three quarters
	$(VENV)/bin/python -m benchmarks.trial_accuracy $(SHARED)/hippocampus

trial-norms: setup  ## Train each norm on five folds at equal minutes, hippocampus and crops; some hour and a half
	$(VENV)/bin/python -m benchmarks.trial_norms $(SHARED)/hippocampus trials/norms/hippocampus
	$(VENV)/bin/python -m benchmarks.trial_norms $(SHARED)/brats20-crops trials/norms/crops \
		--config benchmarks/norms_crops.yaml --epochs 14

trial-few: setup  ## Train on eight crops from scratch and from a model of others; some 20 minutes
	$(VENV)/bin/python -m benchmarks.trial_few $(SHARED)/brats20-crops

trial-missing: setup  ## Train on crops with and without modality dropout, test without each; some 15 minutes
	$(VENV)/bin/python -m benchmarks.trial_missing $(SHARED)/brats20-crops

trial-partial: setup  ## Train on crops half of which lack a class in their annotation; some 20 minutes
	$(VENV)/bin/python -m benchmarks.trial_partial $(SHARED)/brats20-crops

trial-two-stage: setup  ## A pair of networks against the second alone, on whole cases; some half an hour
	$(VENV)/bin/python -m benchmarks.trial_two_stage $(SHARED)/brats20-crops $(SHARED)/brats

trial-planning: setup  ## Hold memory and time of a few steps against the plans of four data sets; some 10 minutes
	$(VENV)/bin/python -m benchmarks.planning trials/planning $(SHARED)/hippocampus $(SHARED)/brats \
		$(SHARED)/brats20-crops $(SHARED)/dicom/glioblastoma --memory 8GB

trial-mutants: $(BENCH)/mutants/.ready  ## Take each check of trust, manifest, store and files away once; an hour or more
	$(BENCH)/mutants/bin/python -m benchmarks.trial_mutants $(MODULES)

# The first asks the advisory data base of PyPI, so this is no part of what CI runs; a package that
# cannot be looked up there is an error.
audit: setup $(BENCH)/audit/.ready  ## Look for known holes in packages and our code, and at licences; asks an advisory service
	$(VENV)/bin/python -m pip freeze --exclude-editable > $(BENCH)/audit/installed.txt
	$(BENCH)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement $(BENCH)/audit/installed.txt
	$(VENV)/bin/ruff check --select S src cli export
	$(VENV)/bin/python -m pytest tests/test_licences.py

dist: setup $(BENCH)/audit/.ready $(BENCH)/deployed/.ready  ## Build the wheel, and beside it a bill of what is deployed with it
	rm -rf build dist
	$(VENV)/bin/python -m build --wheel --outdir dist
	wheel=$$(ls dist/*.whl) && $(BENCH)/audit/bin/cyclonedx-py environment --output-reproducible \
		--pyproject pyproject.toml --output-file $${wheel%.whl}.cdx.json $(BENCH)/deployed/bin/python

fuzz: setup  ## Harm 37,000 files, images, models, configs and records, and read them; some four minutes on two quiet cores
	$(VENV)/bin/python -m tests.fuzzing --count 37000 $(FUZZ_OPTIONS)

bench: bench-environments  ## Compare predictors on a real case; some 25 minutes on a quiet machine
	$(VENV)/bin/python -m benchmarks.predict $(SHARED)/brats --json $(BENCH)/predict.json

bench-training: setup $(BENCH)/torch/.ready  ## Our training step against nnU-Net's and MONAI's; some 10 minutes
	$(VENV)/bin/python -m benchmarks.training --json $(BENCH)/training.json

bench-adopted: bench-environments  ## Adopted models beside nnU-Net's own predictor; some two hours
	$(VENV)/bin/python -m benchmarks.adopted $(BENCH)/adopted --json $(BENCH)/adopted.json

bench-metrics: setup $(BENCH)/oracle/.ready  ## Distances of a whole case beside MONAI and surface-distance; some 10 minutes
	$(VENV)/bin/python -m benchmarks.metrics $(SHARED)/brats/BraTS2021_00495

bench-evaluating: setup  ## Memory of judging a large CT, and 100 cases by one worker and two; some 2 minutes
	$(VENV)/bin/python -m benchmarks.evaluating

test-torch: setup $(BENCH)/torch-export/.ready  ## Export through Keras' torch backend and compare; some 3 minutes
	$(VENV)/bin/python -m pytest tests/test_export_through_torch.py

# What pip takes for torch depends on its indexes: on Linux, give it one of CPU builds, or the CUDA
# build of several GB comes and computes on the CPU all the same.
CONTESTANTS := onnxruntime openvino onnxruntime-openvino torch
bench-environments: setup $(CONTESTANTS:%=$(BENCH)/%/.ready)  ## Make an environment for each contestant

$(BENCH)/onnxruntime/.ready: PACKAGES = --editable '.[cpu]'
$(BENCH)/openvino/.ready: PACKAGES = --editable '.[openvino]'
$(BENCH)/onnxruntime-openvino/.ready: PACKAGES = --editable . onnxruntime-openvino
$(BENCH)/torch/.ready: PACKAGES = torch monai nnunetv2

$(BENCH)/torch-export/.ready: PACKAGES = --editable '.[cpu,torch]'

$(BENCH)/deployed/.ready: PACKAGES = '.[cpu,openvino,dicom,itk,sign]'

$(BENCH)/mutants/.ready: PACKAGES = --editable '.[cpu,openvino,evaluate,sign,dicom]' cosmic-ray hypothesis pytest

$(BENCH)/audit/.ready: audit-constraints.txt
	$(PYTHON) -m venv $(BENCH)/audit
	$(BENCH)/audit/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< \
		pip-audit cyclonedx-bom
	touch $@

# Its packages want older ones than ours, so it has constraints of its own.
$(BENCH)/oracle/.ready: tests/oracle/constraints.txt
	$(PYTHON) -m venv $(BENCH)/oracle
	$(BENCH)/oracle/bin/python -m pip install --quiet --disable-pip-version-check --constraint $< \
		brats-evaluation medpy monai panoptica seg-metrics SimpleITK surface-distance torch
	touch $@

$(BENCH)/%/.ready: pyproject.toml constraints.txt benchmarks/constraints.txt
	$(PYTHON) -m venv $(BENCH)/$*
	$(BENCH)/$*/bin/python $(PIP_INSTALL) --constraint benchmarks/constraints.txt $(PACKAGES)
	touch $@

clean:  ## Remove what was made
	rm -rf $(VENV) $(LIGHT) $(LOWEST) $(NODE) $(BENCH) build dist demo-output trials src/*.egg-info
