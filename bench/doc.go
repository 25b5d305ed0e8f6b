// Package bench holds the evidence that is too slow for a test: run it with `make bench`. Costs are ratios of work done
// in turns within one run, because machines are shared and noisy; a claim that does not hold fails its benchmark.
package bench
