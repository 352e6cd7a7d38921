// Package arrange sorts slices with one copy of the algorithm in the program. Functions as
// slices.SortFunc have a copy for each type of elements, about 15 KB; the time to start a
// command grows with the program. They are the better choice where a sort must be fast.
// It also brings elements together that are alike, without a sort.
package arrange

import "sort"

// Sort sorts l. compare is as in slices.SortFunc.
func Sort[T any](l []T, compare func(a, b T) int) { sort.Sort(by[T]{l, compare}) }

// Stable is Sort, and leaves equal elements in their order.
func Stable[T any](l []T, compare func(a, b T) int) { sort.Stable(by[T]{l, compare}) }

// Groups calls each with the elements that are like one another, for group after group,
// and moves elements for that. The first group is that of the first element. like reports
// whether two elements are of one group.
func Groups[T any](l []T, like func(a, b *T) bool, each func(group []T)) {
	for len(l) > 0 {
		n := 1
		for i := 1; i < len(l); i++ {
			if !like(&l[i], &l[0]) {
				continue
			}
			if i != n {
				l[i], l[n] = l[n], l[i]
			}
			n++
		}
		each(l[:n])
		l = l[n:]
	}
}

type by[T any] struct {
	l       []T
	compare func(a, b T) int
}

func (s by[T]) Len() int           { return len(s.l) }
func (s by[T]) Less(i, j int) bool { return s.compare(s.l[i], s.l[j]) < 0 }
func (s by[T]) Swap(i, j int)      { s.l[i], s.l[j] = s.l[j], s.l[i] }
