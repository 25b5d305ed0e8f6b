package audit_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// An audit in parts, which may be made on as many machines: a batch of probes of a group each.
func ExampleAuditor_AuditParts() {
	auditor := ofTwoBatches()
	defer auditor.Close()
	for part := range auditor.Parts() {
		records, err := auditor.AuditParts(context.Background(), audit.Moment{}, part)
		if err != nil {
			panic(err)
		}
		fmt.Printf("part %d of %d: %d rows of errors, influence of batch %d, %d rows of coherence\n",
			part, auditor.Parts(), len(records.Errors), records.Influence[0].Batch, len(records.Coherence))
	}
	// Output:
	// part 0 of 2: 16 rows of errors, influence of batch 0, 0 rows of coherence
	// part 1 of 2: 0 rows of errors, influence of batch 1, 0 rows of coherence
}

// Parts that are together are summarised. Those of one checkpoint are At its step.
func ExampleRecords_Summarise() {
	auditor := ofTwoBatches()
	defer auditor.Close()
	together := &audit.Records{}
	for part := range auditor.Parts() {
		records, err := auditor.AuditParts(context.Background(), audit.Moment{Model: "overlaps", Step: 10}, part)
		if err != nil {
			panic(err)
		}
		together.Add(records)
	}
	at := together.At("overlaps", 0, 10)
	at.Summarise()
	whole, err := auditor.Audit(context.Background(), audit.Moment{Model: "overlaps", Step: 10})
	if err != nil {
		panic(err)
	}
	fmt.Println(len(at.Coherence) == len(whole.Coherence), *at.Coherence[1].Median == *whole.Coherence[1].Median, at.Coherence[1].N)
	// Output:
	// true true 4
}

// ofTwoBatches is an auditor of one group, whose probes are two batches.
func ofTwoBatches() *audit.Auditor {
	probes := waves(4)
	probes.BatchSize = 2
	auditor, err := audit.New(newModel(overlaps, waves(1)), overlaps, nil).WithField(temperature).WithGroup(orbits.C4(), probes).Done()
	if err != nil {
		panic(err)
	}
	return auditor
}

// Whoever rolls out a model in a loop of their own adds pictures to the records of an audit: here a state of one row, whose middle is predicted too low.
func ExampleRolloutRow_Cells() {
	bytes := func(values ...float32) (all []byte) {
		for _, value := range values {
			all = binary.LittleEndian.AppendUint32(all, math.Float32bits(value))
		}
		return all
	}
	records := &audit.Records{Rollouts: []audit.RolloutRow{{TimeIndex: 4, Rank: "worst", Channel: "temperature", Height: 1, Width: 3, Truth: bytes(1, 2, 1), Prediction: bytes(1, 1.5, 1)}}}
	truth, prediction := records.Rollouts[0].Cells()
	fmt.Println(truth, prediction)
	// Output:
	// [[1 2 1]] [[1 1.5 1]]
}
