# Each command does everything, set-up included.
PYTHON ?= python3
NOX := .venv/bin/nox -f tools/noxfile.py

.PHONY: demo networks bench test lint clean

demo: .venv/ready
	$(NOX) -s demo

networks: .venv/ready
	$(NOX) -s networks

# In a quarter of an hour; in three minutes: make bench ARGS=--quick
bench: .venv/ready
	$(NOX) -s bench -- $(ARGS)

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
