# Everything sets itself up in .venv; the stamps in there make a second run quick.
#   make demo          register the demo pair and write demo-output/
#   make test          the whole fast test suite, core and Slicer side, in parallel; PYTEST_ARGS=-n0 for one process
#   make test-slow     the few tests that take long: networks that learn from nothing, registrations without end
#   make lint          ruff
#   make screenshots   the pictures of the README, from the real panels
#   make bench         RegNet beside other registration tools on the same pairs; DATA names the folder of images
#   make clean         remove .venv and everything generated
#
# Needs make and Python 3.10 or later with venv. Choose another interpreter with `make PYTHON=python3.12 demo`.
# The tests of the Slicer side draw off screen; `make test` installs the system libraries for that on Debian, as root.

PYTHON = python3
VENV = .venv
RUN = $(VENV)/bin/python
INSTALL = -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# A process per core, up to four of up to 2 GB each. They keep the cores busy without threads that wait for each other.
PYTEST_PARALLEL = -n logical --maxprocesses 4 --dist worksteal
PYTEST_ARGS =
ONE_THREAD = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1
BENCH_VENV = .bench/venv
BENCH_ARGS =
DATA = $(REGNET_DATA)

VENV_STAMP = $(VENV)/.stamp-venv
RUNTIME_STAMP = $(VENV)/.stamp-runtime
TEST_STAMP = $(VENV)/.stamp-test
BENCH_STAMP = $(BENCH_VENV)/.stamp

SYSTEM_LIBRARIES = libegl1 libgl1 libgl1-mesa-dri libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon0 fonts-dejavu-core

.PHONY: help demo test test-slow system-libraries lint screenshots bench clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(RUNTIME_STAMP)
	$(RUN) -m regnet.cli demo --output demo-output

test: $(TEST_STAMP) system-libraries
	$(ONE_THREAD) $(RUN) -m pytest -q $(PYTEST_PARALLEL) $(PYTEST_ARGS)

test-slow: $(TEST_STAMP) system-libraries
	$(ONE_THREAD) $(RUN) -m pytest -q $(PYTEST_PARALLEL) -m slow $(PYTEST_ARGS)

# Off-screen rendering needs these. Only root on a Debian-like system can install them; elsewhere the tests say so.
system-libraries:
	@if [ "$$(id -u)" = 0 ] && command -v dpkg >/dev/null && command -v apt-get >/dev/null \
	    && ! dpkg -s $(SYSTEM_LIBRARIES) >/dev/null 2>&1; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        $(SYSTEM_LIBRARIES) >/dev/null || true; fi

lint: $(TEST_STAMP)
	$(RUN) -m ruff check .

screenshots: $(TEST_STAMP)
	$(RUN) Testing/slicer/screenshots.py --output Resources/Screenshots
	$(RUN) Testing/slicer/screenshots.py --module RegNetReview --output Resources/Screenshots
	$(RUN) Testing/slicer/screenshots.py --module RegNetPropagation --output Resources/Screenshots
	$(RUN) Testing/slicer/tutorial.py --output Resources/Screenshots

# Whether the images are there is looked at before the installation, which takes minutes.
bench:
	@REGNET_DATA="$(DATA)" $(PYTHON) Testing/benchmarks/run.py --check $(BENCH_ARGS)
	@$(MAKE) $(BENCH_STAMP)
	REGNET_DATA="$(DATA)" $(BENCH_VENV)/bin/python Testing/benchmarks/run.py $(BENCH_ARGS)

clean:
	rm -rf $(VENV) demo-output build dist .bench .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +

$(VENV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "RegNet needs Python 3.10 or later; choose one with 'make PYTHON=python3.12'." >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	touch $@

$(RUNTIME_STAMP): $(VENV_STAMP) constraints.txt pyproject.toml
	@echo "Installing RegNet and its libraries into $(VENV); torch is large, so the first time takes minutes."
	$(RUN) $(INSTALL) --editable .
	touch $@

$(TEST_STAMP): $(RUNTIME_STAMP)
	@echo "Installing what the tests need into $(VENV)."
	$(RUN) $(INSTALL) --editable '.[train,test,slicer-test]'
	touch $@

$(BENCH_STAMP): constraints.txt pyproject.toml Testing/benchmarks/requirements.txt
	@echo "Installing RegNet and the tools it is compared with into $(BENCH_VENV)."
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python $(INSTALL) --requirement Testing/benchmarks/requirements.txt --editable .
	touch $@
