package main

import (
	"context"
	"math"
	"strconv"
	"time"

	"github.com/klips-go/ipsec/testscripts/bed"
)

// Rates of small packets grow in steps of 10 %, from 5000 packets/s to a million.
const (
	firstRate = 5000
	growth    = 1.1
	rateSteps = 57
)

func rateOf(step int) float64 { return firstRate * math.Pow(growth, float64(step)) }

// stepOf returns the step that is the nearest to a rate.
func stepOf(rate float64) int {
	step := math.Round(math.Log(max(rate, 1)/firstRate) / math.Log(growth))
	return min(max(int(step), 0), rateSteps-1)
}

// probeTime is how long one rate is tried, mostLost which part of the packets may be lost.
const (
	probeTime = 300 * time.Millisecond
	mostLost  = 0.03
)

// udp returns the highest rate of small packets that arrive, in packets per second, or 0.
// The search starts at the rate guess.
func (r *rig) udp(w *way, guess float64) (float64, error) {
	step, err := highest(rateSteps, stepOf(guess), func(step int) (bool, error) {
		want := rateOf(step) * probeTime.Seconds()
		for tries := 1; ; tries++ {
			sent, got, err := r.probe(w, rateOf(step))
			ok := float64(sent) >= want*(1-mostLost) && float64(got) >= float64(sent)*(1-mostLost)
			// Other work of the machine may have disturbed if it was close.
			if err != nil || ok || tries == 2 || float64(got) < want*(1-10*mostLost) {
				return ok, err
			}
		}
	})
	if err != nil || step < 0 {
		return 0, err
	}
	return rateOf(step), nil
}

// highest returns the highest of n steps for which probe returns true, if it does so for
// all lower steps; -1 if there is none. It begins at the step start.
func highest(n, start int, probe func(step int) (bool, error)) (int, error) {
	good, bad := -1, n // the answer is at least good, and below bad
	for step, stride := start, 1; bad-good > 1; {
		ok, err := probe(step)
		if err != nil {
			return 0, err
		}
		if ok {
			good = step
		} else {
			bad = step
		}
		switch {
		case bad == n: // no bad step is known yet
			step = min(step+stride, n-1)
			stride *= 2
		case good == -1:
			step = max(step-stride, 0)
			stride *= 2
		default:
			step = (good + bad) / 2
		}
	}
	return good, nil
}

// probe offers a rate of small packets, and returns how many were sent and received.
func (r *rig) probe(w *way, rate float64) (sent, got int, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	in, err := r.generate(ctx, w.hosts[1], "udp-receive", bed.Inners[1])
	if err != nil {
		return 0, 0, err
	}
	addr, err := in.line()
	if err == nil {
		sent, err = r.sendProbe(ctx, w, addr, rate)
	}
	in.in.Close() // it prints the number when its input ends
	if err == nil {
		got, err = in.number()
	}
	if e := in.end(err != nil); err == nil {
		err = e
	}
	return sent, got, err
}

func (r *rig) sendProbe(ctx context.Context, w *way, addr string, rate float64) (sent int, err error) {
	out, err := r.generate(ctx, w.hosts[0], "udp-send", addr, strconv.FormatFloat(rate, 'f', 0, 64), decimal(probeTime))
	if err != nil {
		return 0, err
	}
	sent, err = out.number()
	if e := out.end(err != nil); err == nil {
		err = e
	}
	return sent, err
}

// number reads a line with a number.
func (g *generator) number() (int, error) {
	text, err := g.line()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
