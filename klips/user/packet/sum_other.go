//go:build !amd64 || purego

package packet

var wide = 0 // there is no sumWide

func sumWide(*byte, int) uint64 { panic("packet: sumWide without its instructions") }
