# make demo      the whole pipeline on this machine (runs/quickstart)
# make test      the tests;  make test-all: the slow ones too (they install Apache Beam, playwright and
#                lm-evaluation-harness), and `make test` under Python 3.12 when it is there;  make test-exhaustive: full
#                numbers that would take them too long
# make install   only makes .venv
# make lint      ruff and mypy;  make drill: kills of every stage;  make check-extras: setup.py's extras resolve
# make clean     removes what the others made, except runs/
#
# The tests have XLA compile quickly: a small program runs for less time than its optimisation takes. Scripts that tests
# run as users do are compiled as users' are.
#
# Each creates .venv when it is missing or the requirements changed. PYTHON=... chooses the Python (3.11 or 3.12).

VENV := .venv
PYTHON ?= $(or $(call find,3.11),$(call find,3.12))

# The first Python of a version that runs and can make environments. A pyenv shim may stand on the PATH and fail.
version = $(shell $(1) -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
candidates = python$(1) /usr/bin/python$(1) python3 $(wildcard $(HOME)/.pyenv/versions/$(1).*/bin/python)
find = $(firstword $(foreach python,$(candidates),$(if $(filter $(1),$(call version,$(python))),$(python))))

# jax 0.11, which Python 3.12 takes (constraints.txt), has no such emitters any more, and ends where it is given the flag.
QUICKLY = --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1 $(if $(filter \
  3.11,$(call version,$(VENV)/bin/python)),--xla_cpu_use_fusion_emitters=false)

ifneq ($(origin PYTHON)$(filter clean,$(MAKECMDGOALS)),file)
ifneq ($(wildcard $(VENV)/installed),)
ifneq ($(call version,$(PYTHON)),$(call version,$(VENV)/bin/python))
$(error $(VENV) is of Python $(call version,$(VENV)/bin/python), not of PYTHON=$(PYTHON): run "make clean" first)
endif
endif
endif

.PHONY: install demo test test-all test-exhaustive lint drill check-extras clean

demo: $(VENV)/installed
	$(VENV)/bin/python experiments/quickstart.py

install: $(VENV)/installed

test: $(VENV)/installed
	XLA_FLAGS="$$XLA_FLAGS $(QUICKLY)" $(VENV)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile

test-all: $(VENV)/installed-slow
	XLA_FLAGS="$$XLA_FLAGS $(QUICKLY)" $(VENV)/bin/python -m pytest -m "slow and not exhaustive" -n 2 --dist loadfile --durations 40
	@python=$(call find,3.12); \
	if [ -z "$$python" ]; then echo "skipped: make test under Python 3.12, which is not here"; \
	elif [ "$(call version,$(VENV)/bin/python)" = 3.12 ]; then echo "make test ran under Python 3.12 already"; \
	else $(MAKE) test VENV=.venv312 PYTHON=$$python; fi

test-exhaustive: $(VENV)/installed-slow
	$(VENV)/bin/python -m pytest -m exhaustive -n 2

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

drill: $(VENV)/installed
	$(VENV)/bin/python experiments/drill.py --kills 5 --json docs/drill/quickstart.json
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/pretrain.json \
	  --compare results.json model/model.safetensors --writes orbax-checkpoint windows \
	  -- python experiments/pretrain_7b.py --preset smoke --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/sft.json \
	  --compare results.json model/model.safetensors answers/greedy.jsonl --writes orbax-checkpoint windows answers \
	  -- python experiments/sft_7b.py --preset smoke --out {out}
	$(VENV)/bin/python experiments/grpo_7b.py --preset tiny --grpo.loop.steps 1 \
	  --grpo.optimizer.warmup-steps 0 --eval-count 8 --cache .cache/drill --out .cache/drill/tiny
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/grpo.json \
	  --compare results.json best.json best/model.safetensors model/model.safetensors completions/000006.jsonl \
	  --writes orbax-checkpoint completions.npz scores.npz old.npz answers best.new \
	  -- python experiments/grpo_7b.py --preset smoke --init .cache/drill/tiny/model --reward accuracy overlong \
	  --grpo.max-completion-length 72 --grpo.num-iterations 2 --grpo.loop.steps 8 --grpo.loop.checkpoint-every 3 \
	  --grpo.optimizer.peak-lr 3e-4 --eval-count 64 --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 10 --json docs/drill/evaluate.json \
	  --compare results.json report.html samples/generator-tool/000002.jsonl --writes samples model.json \
	  -- python experiments/evaluate.py --model .cache/drill/tiny/model --protocols all --shots 2 --limit 60 \
	  --sampling.n 4 --sampling.temperature 0.7 --sampling.chunk 80 --sampling.max-new-tokens 72 --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/label_steps.json \
	  --compare labels.jsonl math_shepherd.jsonl truths.jsonl results.json report.html --writes pool labelled rounds.json \
	  -- python experiments/label_steps_7b.py --preset smoke --cache .cache/drill --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/reward_model.json \
	  --compare results.json metrics.jsonl model/model.safetensors model/reward_model.json \
	  --writes orbax-checkpoint windows results.json \
	  -- python experiments/reward_model_7b.py --preset smoke --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/iterative_grpo.json \
	  --compare results.json $(foreach i,1 2,$(foreach file,labels/results.json labels/labels.jsonl \
	  reward_model/results.json reward_model/metrics.jsonl reward_model/model/model.safetensors \
	  policy/results.json policy/metrics.jsonl policy/completions/000001.jsonl policy/model/model.safetensors,\
	  iteration-0$(i)/$(file))) iteration-02/replay.jsonl \
	  --writes pool labelled rounds.json reward_model/checkpoints completions.npz policy/checkpoints \
	  -- python experiments/iterative_grpo_7b.py --preset smoke --cache .cache/drill --out {out}
	$(VENV)/bin/python experiments/drill.py --kills 10 --json docs/drill/compare_algorithms.json \
	  --compare results.json seed-0/online_rft/metrics.jsonl seed-0/online_rft/answers/greedy-000002.jsonl \
	  seed-0/grpo_steps/metrics.jsonl seed-0/grpo_steps/answers/greedy-000002.jsonl \
	  seed-0/grpo_steps/completions/000001.jsonl base/labels/labels.jsonl base/process/model/model.safetensors \
	  --writes rollouts labelled orbax-checkpoint completions.npz answers \
	  -- python experiments/compare_algorithms.py --preset smoke --cache .cache/drill --out {out}
	$(VENV)/bin/python experiments/quickstart.py --preset smoke --stage mine --out .cache/drill/docs
	$(VENV)/bin/python experiments/drill.py --kills 20 --json docs/drill/mine.json \
	  --compare corpus/math_corpus-train.array_record-00000-of-00001 scores.jsonl.gz contamination.jsonl.gz funnel.json \
	  iteration-01/samples.jsonl.gz --writes parquet duplicates.npy classifier.bin scores.npy kept.npy clean- corpus.tmp \
	  -- python experiments/mine_corpus.py --preset smoke --warc .cache/drill/docs/mine/crawl/*.warc.gz \
	  --seed .cache/drill/docs/mine/crawl/seed.jsonl --out {out}

check-extras: $(VENV)/installed
	@for extra in gpu tpu beam browser torch lm-eval dev; do \
	  said=$$($(VENV)/bin/pip install --quiet --dry-run ".[$$extra]" 2>&1) || { echo "$$said"; exit 1; }; \
	  case "$$said" in *"does not provide the extra"*) echo "$$said"; exit 1;; esac; \
	  echo "[$$extra] resolves"; done

$(VENV)/installed: requirements.txt constraints.txt setup.py
	@case "$(call version,$(PYTHON))" in 3.11|3.12) ;; \
	*) echo "error: Python 3.11 or 3.12 with venv is needed$(if $(PYTHON), and $(PYTHON) is not one): install one, or say where: make PYTHON=/path/to/python3.12" >&2; exit 2;; esac
	@[ "$(call version,$(VENV)/bin/python)" = "$(call version,$(PYTHON))" ] && \
	$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(VENV)/installed-slow: $(VENV)/installed
	$(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[beam,browser,lm-eval]"
	@touch $@

clean:
	rm -rf .venv .venv312 .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
