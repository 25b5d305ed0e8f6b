// Package shapes has some exported functions and methods with an example, and some without.
package shapes

import "io"

type Square struct{ Side float64 }

func New(side float64) *Square { return &Square{side} }

func (s *Square) Area() float64    { return s.Side * s.Side }
func (s *Square) Scale(by float64) { s.Side *= by }
func (s *Square) Close() error     { return nil }

type Circle struct{ Radius float64 }

func (Circle) Close() error { return nil }

type List[T any] struct{ all []T }

func NewList[T any](all ...T) *List[T] { return &List[T]{all} }

func (l *List[T]) Len() int { return len(l.all) }

type Shape interface{ Area() float64 }

func Draw(io.Writer, Shape) {}

func Unchecked() {}
