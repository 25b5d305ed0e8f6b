package shapes_test

import (
	"fmt"
	"os"

	"example.com/missing"
	"github.com/symaudit/symaudit/shapes"
)

func ExampleNew() {
	square := shapes.New(missing.Side())
	defer square.Close() // and not a Circle's
	missing.Call(func() { fmt.Println(square.Area()) })
	// Output: 4
}

func ExampleUnchecked() {
	shapes.Unchecked()
}

func helper() { shapes.Draw(os.Stdout, nil) }
