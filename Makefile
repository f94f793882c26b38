# reproduce and test need nothing but Linux, make, Python >= 3.11 and the package index.
PYTHON = $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
UV = .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python
export UV_HTTP_TIMEOUT ?= 300
reproduce test notebooks: export OMP_NUM_THREADS ?= 1  # jobs and workers share the cores; a lab or a benchmark has them all
# xargs takes quotes off but runs nothing; a shell would run what CONFIG="dataset=x; ..." says.
WITH_CONFIG = printf '%s\n' "$$CONFIG" | xargs

.PHONY: help reproduce test lab notebooks readme site bench

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*##/\t/'

reproduce: .venv/installed  ## run every notebook at the quick preset on the built-in data, write figures/quick/
	@started=$$(date +%s); $(WITH_CONFIG) .venv/bin/snakemake --profile workflow/local --config && \
	$(WITH_CONFIG) .venv/bin/python workflow/summary.py $$(($$(date +%s) - started))

test: .venv/installed  ## lint, unit tests and every notebook under nbval, on all cores
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	models=$$(mktemp -d); trap 'rm -rf "$$models"' EXIT; ARTLIB_MODELS=$$models .venv/bin/python -m pytest -q \
	-n logical --maxprocesses 8 --nbval --nbval-current-env tests notebooks  # every model trained anew, once

lab: .venv/installed  ## open JupyterLab on the notebooks
	.venv/bin/jupyter lab notebooks

notebooks: .venv/installed  ## run every notebook at its committed (smoke) preset and store the outputs in place
	ARTLIB_MODELS=$$(mktemp -d) .venv/bin/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

readme: .venv/installed  ## write README's scoreboard from the recorded runs
	.venv/bin/python workflow/readme.py

site: .venv/installed  ## write site/: the notebooks as pages, and the reference from the docstrings
	.venv/bin/python workflow/site.py

bench: .venv/installed  ## time the parts that cost most
	.venv/bin/python -m tests.benchmarks

# Warming the font cache here keeps Matplotlib's first-run notice out of the first notebook.
.venv/installed: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "artlib needs Python >= 3.11 on the PATH, found $$(python3 --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet uv
	$(UV) -r requirements.lock
	$(UV) --no-deps --no-build-isolation -e .
	.venv/bin/python -c "import matplotlib.font_manager"
	@touch $@
