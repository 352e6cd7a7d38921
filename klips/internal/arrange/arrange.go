// Package arrange sorts slices with one copy of the algorithm in the program. Functions as
// slices.SortFunc have a copy for each type of elements, about 15 KB; the time to start a
// command grows with the program. They are the better choice where a sort must be fast.
package arrange

import "sort"

// Sort sorts l. compare is as in slices.SortFunc.
func Sort[T any](l []T, compare func(a, b T) int) { sort.Sort(by[T]{l, compare}) }

// Stable is Sort, and leaves equal elements in their order.
func Stable[T any](l []T, compare func(a, b T) int) { sort.Stable(by[T]{l, compare}) }

type by[T any] struct {
	l       []T
	compare func(a, b T) int
}

func (s by[T]) Len() int           { return len(s.l) }
func (s by[T]) Less(i, j int) bool { return s.compare(s.l[i], s.l[j]) < 0 }
func (s by[T]) Swap(i, j int)      { s.l[i], s.l[j] = s.l[j], s.l[i] }
