# Everything a fresh machine needs: Python (3.11 or newer) and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test clean
demo: $(VENV)/.installed            ## the main job, small: real mp4 files in, futures, numbers and an encoder out
	$(BIN)/vidssl demo

test: $(VENV)/.installed            ## all tests, on every core
	$(BIN)/python -m pytest -n auto --dist loadfile

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vidssl needs Python 3.11 or newer; say make PYTHON=/path/to/it")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:                              ## forget the virtual environment and all runs
	rm -rf $(VENV) runs
