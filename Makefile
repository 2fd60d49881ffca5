# Every target installs what it needs into .venv first; nothing else has to be run before.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard native/* native/*/*)

.PHONY: demo test sanitize check format bench pictures clean

demo: $(VENV)/run.stamp  ## the whole flow on the bundled handwritten digits
	$(BIN)/convsmith forge digits --time 2m
	@echo "To see it in a browser: $(BIN)/convsmith studio last"

test: $(VENV)/dev.stamp  ## the test suite; real data too when CONVSMITH_DATA names it
	$(BIN)/python -m pytest -q

sanitize: $(VENV)/dev.stamp  ## the contracts of convolutions and products under the address and undefined-behaviour sanitizers
	cmake -S . -B build/sanitize -DCMAKE_BUILD_TYPE=Release -DCONVSMITH_SANITIZE=ON -DPython_EXECUTABLE=$$(realpath -s $(BIN)/python) \
	  -Dnanobind_DIR=$$($(BIN)/python -m nanobind --cmake_dir) > build/sanitize.log
	cmake --build build/sanitize --parallel 2 >> build/sanitize.log
	LD_PRELOAD="$$($${CXX:-g++} -print-file-name=libasan.so) $$($${CXX:-g++} -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/python tests/sanitized.py build/sanitize/_native.*.so

check: $(VENV)/dev.stamp  ## lint, types, layers, C++ format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'native/*.cc' 'native/*.h')

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'native/*.cc' 'native/*.h')

bench: $(VENV)/dev.stamp  ## every claim of docs/results again (hours; needs CONVSMITH_DATA)
	@missed=; for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; OMP_WAIT_POLICY=PASSIVE $(BIN)/python $$file || missed="$$missed $$file"; done; \
	if [ -n "$$missed" ]; then echo "not reached:$$missed"; exit 1; fi

pictures: $(VENV)/dev.stamp  ## the pictures of the studio's pages in docs/studio, taken while the browser test goes through them
	CONVSMITH_PICTURES=$(CURDIR)/docs/studio $(BIN)/python -m pytest -q tests/studio/test_studio_browser.py

clean:
	rm -rf $(VENV) build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Convsmith needs Python 3.11 or newer: apt-get install python3 python3-venv"; exit 1; }
	@command -v g++ >/dev/null || command -v c++ >/dev/null || { echo "Convsmith needs a C++ compiler to build its native core: apt-get install g++"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Convsmith needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: $(VENV)/bin/python pyproject.toml constraints.txt $(NATIVE)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[studio]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,zoo,openvino,keras,studio,video]'
	@touch $@
