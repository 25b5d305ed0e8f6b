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

func ExampleList() {
	fmt.Println(shapes.NewList(missing.Side()).Len())
	fmt.Println(shapes.NewList(1, 2).Len())
	// Output: 12
}

func ExampleUnchecked() {
	shapes.Unchecked()
}

func helper() { shapes.Draw(os.Stdout, nil) }
