//go:build !purego

#include "textflag.h"

// func sumWide(p *byte, n int) uint64
//
// Each 32-bit word is added to a 64-bit lane of its own, so that no carry is lost.
TEXT ·sumWide(SB), NOSPLIT, $0-24
	MOVQ  p+0(FP), SI
	MOVQ  n+8(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3
	VPXOR Y15, Y15, Y15

loop:
	VMOVDQU    (SI), Y4
	VMOVDQU    32(SI), Y5
	VPUNPCKLDQ Y15, Y4, Y6
	VPUNPCKHDQ Y15, Y4, Y7
	VPUNPCKLDQ Y15, Y5, Y8
	VPUNPCKHDQ Y15, Y5, Y9
	VPADDQ     Y6, Y0, Y0
	VPADDQ     Y7, Y1, Y1
	VPADDQ     Y8, Y2, Y2
	VPADDQ     Y9, Y3, Y3
	ADDQ       $64, SI
	SUBQ       $64, CX
	JNZ        loop

	VPADDQ       Y1, Y0, Y0
	VPADDQ       Y3, Y2, Y2
	VPADDQ       Y2, Y0, Y0
	VEXTRACTI128 $1, Y0, X1
	VPADDQ       X1, X0, X0
	VPSRLDQ      $8, X0, X1
	VPADDQ       X1, X0, X0
	VMOVQ        X0, AX
	MOVQ         AX, ret+16(FP)
	VZEROUPPER
	RET
