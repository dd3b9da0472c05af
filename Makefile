# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
NOX := .venv/bin/nox -f tools/noxfile.py
TESTS := lint build tests_tfa tests_keras3 tests_python \
	sanitizers onnxruntime-1.18 onnxruntime-1.20 onnxruntime-1.22 onnxruntime-1.26 onnxruntime-1.32

.PHONY: demo test lint clean

demo: .venv/ready
	$(NOX) -s demo

test: .venv/ready
	$(NOX) -s $(TESTS)

lint: .venv/ready
	$(NOX) -s lint

.venv/ready:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet 'nox>=2025.2.9'
	touch $@

clean:
	rm -rf .venv .nox build dist
