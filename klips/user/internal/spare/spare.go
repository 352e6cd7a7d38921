// Package spare keeps what calls need beside their arguments, as buffers, for later calls.
package spare

import "sync"

// A Pool has values that no call uses now. Unlike those of a [sync.Pool] they stay when the
// garbage collector runs: there are as many as calls ran at the same time, and once they are
// made, no call allocates. Any goroutine may use a Pool.
type Pool[T any] struct {
	make func() *T

	mu   sync.Mutex
	idle []*T // guarded by mu
}

// New returns a Pool whose values are made by a function.
func New[T any](make func() *T) *Pool[T] { return &Pool[T]{make: make} }

// Get returns a value that is the caller's until Put.
func (p *Pool[T]) Get() *T {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return p.make()
	}
	v := p.idle[n]
	p.idle = p.idle[:n]
	return v
}

// Put gives a value back.
func (p *Pool[T]) Put(v *T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, v)
}
