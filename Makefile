# One chore, one script: the same commands in development and in CI.
.PHONY: help setup quickstart test check bench pages figures wheel neon
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup:  ## .venv with facta and all that development needs (quick when nothing changed)
	@scripts/setup

quickstart:  ## real data, five recommenders, one honest table: under ten minutes
	@scripts/quickstart

test:  ## set up what the tests need and run them; ARGS="-k jagged" selects
	@scripts/test $(ARGS)

check:  ## lint, format, types
	@scripts/check

bench:  ## measure the figures; ARGS="prepare" selects
	@scripts/bench $(ARGS)

pages:  ## run the commands of README.md and docs/ as printed; ARGS="README.md" selects
	@scripts/pages $(ARGS)

figures:  ## the latest value of every figure beside its bar; ARGS=--write renews docs/results.md
	@scripts/figures $(ARGS)

wheel:  ## build the wheel and test it installed, away from the sources; ARGS=--pure without the kernels
	@scripts/wheel $(ARGS)

neon:  ## the NEON kernels against the portable ones, under qemu
	@scripts/neon
