# kinegraph: `make demo` and `make test` are the two commands to start with.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test test-all check format fuzz page numbers records leaderboard pretrained load counting exercises picture docs package clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,export,cluster,video,serve,mocap]'
	touch $(STAMP)

demo: setup
	$(BIN)/kinegraph demo

# The networks of tests are too small for more than one thread; two processes share the files of tests.
test test-all: export OMP_NUM_THREADS ?= 1
WORKERS ?= 2

test: setup
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

test-all: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py tests/test_style.py

# Alters files of every kind at random for so many seconds, and counts what the readers make of them.
SECONDS ?= 300
SEED ?= 0
fuzz: setup
	$(BIN)/python tests/fuzz.py $(SECONDS) $(SEED)

# Kills commands at random moments and fills the disk under them, and counts what breaks: docs/reliability.md.
KILLS ?= 20
.PHONY: gates
gates: export OMP_NUM_THREADS ?= 1
gates: setup
	$(BIN)/python tests/gates.py $(KILLS) $(SEED)

format: setup
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

# Fetches the runtime with which the page of `serve` and `web` estimates poses in the browser (needs node).
# The wheel takes it along; git ignores it.
RUNTIME := onnxruntime-web@1.30.0
VENDOR := src/kinegraph/server/page/vendor
page:
	rm -rf build/page $(VENDOR) && mkdir -p build/page $(VENDOR)
	cd build/page && npm pack --silent $(RUNTIME) && tar -xzf *.tgz
	cp $(addprefix build/page/package/dist/,ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm) $(VENDOR)
	cd $(VENDOR) && sha256sum --check --quiet ../../page_runtime.sha256

# Trains every real set and every model family on DATA and rewrites the tables of docs/numbers.md.
DATA ?= ../shared/data
numbers: setup
	$(BIN)/python benchmarks/accuracy.py $(DATA)
	$(BIN)/python benchmarks/models.py $(DATA)
	$(BIN)/python benchmarks/families.py $(DATA)
	$(BIN)/python benchmarks/teach.py $(DATA)
	$(BIN)/python benchmarks/leaderboard.py $(DATA)

# Counts repetitions in UI-PRMD, synthetic motions and videos: the table and the picture of docs/counting.md.
counting: setup
	$(BIN)/python benchmarks/counting.py $(DATA) --videos --picture docs/pictures/counting.png

# Writes the moving picture of the README; again after a change of the bundled weights.
picture: setup
	$(BIN)/python benchmarks/watch_picture.py $(DATA)

# Fits the bundled model ui-prmd, and writes the tables of docs/assess.md and the model card.
exercises: setup
	$(BIN)/python benchmarks/exercises.py $(DATA)

# Trains the rows of benchmarks/records.yaml and writes them into docs/numbers.md; GPU=1: the large recipes.
records: setup
	$(BIN)/python benchmarks/records.py $(DATA) $(if $(GPU),--gpu)
	$(BIN)/python benchmarks/leaderboard.py $(DATA)

# Writes docs/leaderboard.md from published figures, score files in DATA and the tables of docs/numbers.md.
leaderboard: setup
	$(BIN)/python benchmarks/leaderboard.py $(DATA)

# Loads a server over sockets, checks every answer, and asks for ten times as much as it can give.
MODEL ?= penn-action
PERSONS ?= 100
load: setup
	$(BIN)/python benchmarks/load.py $(MODEL) --persons $(PERSONS)
	$(BIN)/python benchmarks/load.py $(MODEL) --persons $(PERSONS) --times 10

# Trains the weights that install with kinegraph, and writes them with their model card.
pretrained: setup
	$(BIN)/python benchmarks/pretrained.py $(DATA)

# Builds the documentation site into build/site; warnings and dead links are errors. The first build trains
# the networks of the gallery; they stay in build/gallery.
DOCS_STAMP := .venv/.docs-installed
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $(DOCS_STAMP)

# Builds the source distribution and the wheel in dist/, and checks both.
PACKAGE_STAMP := .venv/.package-installed
package: $(PACKAGE_STAMP)
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents --package src/kinegraph dist/*.whl
	@ls -l dist

$(PACKAGE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[package]'
	touch $(PACKAGE_STAMP)

clean:
	rm -rf .venv dist build runs stores demo
