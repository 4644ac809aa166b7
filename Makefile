# Each goal makes .venv first, when there is none or it is stale (tools/venv.sh).
PYTHON ?=
PORT ?= 8000
WORKERS ?= 2
BIN := .venv/bin/python -m

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

book: venv ## build the site from the stored outputs, and print where to open it
	@echo "Building the book; warnings are errors"
	rm -rf _build/html/ja
	.venv/bin/jupyter-book build . -W -n --keep-going -q
	.venv/bin/python tools/languages.py --build
	@.venv/bin/python -c "import pathlib; print('Open', pathlib.Path('_build/html/index.html').resolve().as_uri())"

test: venv ## lint, run all tests and all chapters
	$(BIN) ruff check .
	$(BIN) ruff format --check .
	$(BIN) pytest -n $(WORKERS) --nbval

bench: venv ## race our layers and a training run of ours: bench.json, bench_train.json
	$(BIN) attnbook.bench --out bench.json
	$(BIN) attnbook.race --out bench_train.json

experiments: venv ## rerun the long experiments whose results the chapters plot
	.venv/bin/python experiments/heads.py
	.venv/bin/python experiments/uptrain.py
	.venv/bin/python experiments/latent.py
	.venv/bin/python experiments/window.py
	.venv/bin/python experiments/louder.py
	.venv/bin/python experiments/gates.py
	.venv/bin/python experiments/bakeoff.py
	.venv/bin/python experiments/race.py

distributed: venv ## attention across two and four processes, checked against one
	OMP_NUM_THREADS=1 $(BIN) torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m attnbook.parallel
	OMP_NUM_THREADS=1 $(BIN) torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc-per-node 4 -m attnbook.parallel

colab: venv ## rehearse every chapter as Colab meets it, each in a bare environment
	COLAB_ALL=1 $(BIN) pytest -n $(WORKERS) --dist load tests/test_colab.py

audit: book ## measure the pages as a phone gets them (needs Node and Chromium)
	.venv/bin/python tools/audit.py

pdf: book ## print the whole book: _build/attention.pdf (needs Chromium)
	.venv/bin/python tools/pdf.py

epub: venv ## make an EPUB of the whole book: _build/attention.epub
	.venv/bin/python tools/epub.py

catalogues: venv ## bring the catalogues of translations up to date
	.venv/bin/python tools/languages.py

poster: venv ## draw the cards of all models on one sheet: poster.pdf
	$(BIN) attnbook poster --all -o poster.pdf

serve: book ## serve the site on this machine
	@echo "Open http://127.0.0.1:$(PORT)/ (stop with Ctrl-C)"
	@$(BIN) http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean: ## remove what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis
	find code tests tools _ext -name __pycache__ -prune -exec rm -rf {} +

pins: ## make requirements.txt anew from requirements.in
	sh tools/pins.sh

venv:
	@PYTHON='$(PYTHON)' sh tools/venv.sh

.PHONY: help book test bench experiments distributed colab audit pdf epub catalogues poster serve clean pins venv
