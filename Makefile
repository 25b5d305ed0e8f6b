# make demo   the main job: data, three tiny models trained with an audit each epoch, a report
# make test   vet, formatting, lint and every test; on XLA too when .xla/ exists (scripts/install-xla)
# make bench  performance figures, as ratios within one run
# make bench-solver  a million intervals against extended precision, products to certified intervals against conjugate gradients, and
#             audits of the demo's models recomputed in NumPy; needs Python and the network
# make bench-paper   the paper's networks of 13 and 5 million parameters on 128x128, audited on XLA
# make bench-peers   symaudit, JAX, curvlinops, pyDVL and bergson on the same networks, batch and right-hand sides: one table; NETWORKS=unet-tiny for
#             some; needs XLA, Python 3.11 or later, the network, 8 GB of disk, and an hour or more
# make bench-peers-step   a step of the solver on XLA and in JAX, on the same models; needs Python and the network
# make bench-peers-train  a step of the training on XLA and in JAX, from the same weights; NETWORKS=paper for those of the paper alone; needs Python
#             and the network, and 8 GB of memory
# make bench-peers-checks  other tools' answers on the same work: Lie derivatives of the same networks in JAX, the callbacks of Keras and Lightning that stop a
#             training, h5py on the same files; needs Python, the network, 7 GB of disk and ten minutes or less
# make verify-data   the generated data against exact solutions, and an independent solver where there is Python and the network: one
#             table, an exit code, half an hour; PARTS=1234 for the quicker ones (docs/data.md)
# make experiments   the paper's experiment redone at a scale that two cores bear, with its controls, beside docs/results.md: 90 minutes at most, goes on
#             where it was; needs Python and the network for the comparison
# make soak   50 trainings killed at random and 1,000 audits, which make test has fewer of
# make queries  the documented queries, every reader, and exports recomputed in NumPy, on a small run that was resumed; needs Python and
#             the network
# make verify-import  files in the form of PDEGym's imported, and compared with NumPy's reading of them; needs Python and the network, and 6 GB
#             of disk for a while
# make build  bin/symaudit

# The Go backend's matrix products are five times faster with it.
export GOEXPERIMENT = simd
# No download behind the user's back: scripts/install-xla is the one way to a plugin.
export GOMLX_NO_AUTO_INSTALL = 1
ifneq ($(wildcard .xla/pjrt_c_api_cpu_plugin.so),)
export PJRT_PLUGIN_LIBRARY_PATH = $(CURDIR)/.xla
endif
# XLA's bindings need a C compiler; without one they are left out.
CC ?= cc
ifeq ($(shell command -v $(CC) 2>/dev/null),)
export CGO_ENABLED = 0
endif

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.7.0
ARGS ?=
PARTS ?= 123456
NETWORKS ?= .

.PHONY: demo test lint bench bench-solver bench-paper jax torch bench-peers bench-peers-step bench-peers-train bench-peers-checks verify-data verify-import soak queries experiments build
demo: build
	bin/symaudit demo $(ARGS)

build:
	go build -o bin/symaudit ./cmd/symaudit

test: lint
	go test -timeout 30m ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	@! grep -rnE 'gobackend\.(New\(""|GetBackend)' --include=*.go . || { echo "a Go backend that may wait forever: open it with ops_sequential (docs/gomlx.md)"; exit 1; }
	@! go list -deps ./audit ./hooks ./writers | grep go-xla || { echo "the library links XLA, which its users choose themselves"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

bench:
	go test -run "^$$" -bench 'Oracles|Product|Gap|Budget|Host|Cost|Limit' -benchtime 1x -timeout 60m ./bench
	go test -run "^$$" -bench . -benchtime 1x -timeout 60m ./trainer/euler ./models ./writers/report

soak:
	SYMAUDIT_KILLS=50 go test ./trainer -count 1 -run KilledAtRandom -v -timeout 30m
	SYMAUDIT_MUTATIONS=10000 go test ./writers -count 1 -run Mutations -v -timeout 30m
	SYMAUDIT_AUDITS=1000 go test ./hooks -count 1 -run LeaveNothingBehind -v -timeout 30m

# Below a folder that DuckDB would take for a column.
queries:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && run="$$folder/step=7/run" && \
	go run ./scripts/resumed-run "$$run" && scripts/check-readers "$$run" && scripts/check-tensorboard "$$run" && scripts/check-queries "$$run" && \
	go run ./cmd/symaudit export "$$run" --model unet --out "$$folder/unet" && scripts/check-export "$$folder/unet" && \
	go run ./cmd/symaudit export "$$run" --model vit --relative-lambdas 1e-8,1e-6 --out "$$folder/vit" && scripts/check-export "$$folder/vit"

experiments:
	scripts/experiments $(ARGS)

verify-import:
	scripts/check-import

bench-solver:
	SYMAUDIT_ENTRIES=80000 go test ./solver -count 1 -run Interval -v -rapid.checks=1000 -timeout 30m
	go test -run "^$$" -bench Solver -benchtime 1x -timeout 120m ./bench
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && go build -o "$$folder/symaudit" ./cmd/symaudit && cd "$$folder" && \
	./symaudit train --config $(CURDIR)/configs/demo.yaml --dir run && for model in unet vit fno; do \
		./symaudit export run --model $$model --relative-lambdas 1e-8,1e-6,1e-4,1e-2 --out $$model && $(CURDIR)/scripts/check-export $$model || exit 1; \
	done

# One process for each, whose peak of memory is its own.
bench-paper:
	go test -run "^$$" -bench '^BenchmarkPaper$$/unet' -benchtime 1x -timeout 120m ./bench
	go test -run "^$$" -bench '^BenchmarkPaper$$/vit' -benchtime 1x -timeout 120m ./bench
	go test -run "^$$" -bench PaperHost -benchtime 1x -timeout 120m ./bench

# The requirements are whole, so that pip has nothing to resolve.
jax:
	python3 -m venv bench/peers/.venv
	bench/peers/.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r bench/peers/requirements.txt

torch:
	python3 -m venv bench/peers/.venv-torch
	bench/peers/.venv-torch/bin/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r bench/peers/requirements-torch.txt

# Data, run and exports are kept in runs/bench-peers and used again: remove it to have them anew.
bench-peers: jax torch
	@mkdir -p runs/bench-peers && go build -o runs/bench-peers/symaudit ./cmd/symaudit && go build -o runs/bench-peers/side ./bench/peers/symaudit
	@cd runs/bench-peers && peers=$(CURDIR)/bench/peers && \
	{ [ -d data ] || ./symaudit data generate --config $$peers/networks.json --out data; } && \
	{ [ -f run/report.html ] || { rm -rf run && ./symaudit train --config $$peers/networks.json --dir run; }; } && \
	write() { [ -d $$1 ] || ./symaudit export run --model $$1 --relative-lambdas 1e-6,1e-4,1e-2 --jacobian-limit $$2 --out $$1; } && \
	write unet-tiny 1GiB && write vit-tiny 1GiB && write vit-medium 0
	bench/peers/.venv/bin/python bench/peers/table.py runs/bench-peers runs/bench-peers/side $(if $(filter-out .,$(NETWORKS)),$(NETWORKS))

bench-peers-step: jax
	bench/peers/.venv/bin/python bench/peers/step.py runs/bench-peers/step.json
	go test -run "^$$" -bench Product/.*/xla -benchtime 1x -timeout 60m ./bench

bench-peers-train: jax
	SYMAUDIT_JAX=$(CURDIR)/bench/peers/.venv/bin/python go test -run "^$$" -bench "TrainingStep/$(NETWORKS)" -benchtime 1x -timeout 60m ./bench

# One after the other, so that each has the machine; all of them, also where one fails.
bench-peers-checks: build
	python3 -m venv bench/peers/.venv-checks
	bench/peers/.venv-checks/bin/pip install --quiet --disable-pip-version-check -r bench/peers/requirements-checks.txt
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && python=$(CURDIR)/bench/peers/.venv-checks/bin/python && failed=0 && go build -o "$$folder/stopped-at" ./scripts/stopped-at && \
	{ $$python bench/peers/equivariance.py bin/symaudit "$$folder" || failed=1; echo; \
	$$python bench/peers/stops.py "$$folder/stopped-at" "$$folder/run/rows.jsonl" || failed=1; echo; \
	SYMAUDIT_PYTHON=$$python go test -run "^$$" -bench BigFile -benchtime 1x -timeout 30m ./trainer/dataset/pdegym || failed=1; exit $$failed; }

verify-data:
	scripts/verify-data $(PARTS)
