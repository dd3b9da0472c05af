# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
NOX := .venv/bin/nox -f tools/noxfile.py

.PHONY: demo test lint clean

demo: .venv/ready
	$(NOX) -s demo

test: .venv/ready
	$(NOX)

lint: .venv/ready
	$(NOX) -s lint

.venv/ready:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet 'nox>=2026.10.20'
	touch $@

clean:
	rm -rf .venv .nox build dist
