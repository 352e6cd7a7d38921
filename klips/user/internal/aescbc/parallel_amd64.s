//go:build !purego

#include "textflag.h"

// EACH applies an instruction with operand X8 to the eight blocks X0 to X7.
#define EACH(OP) \
	OP X8, X0; \
	OP X8, X1; \
	OP X8, X2; \
	OP X8, X3; \
	OP X8, X4; \
	OP X8, X5; \
	OP X8, X6; \
	OP X8, X7

// ROUND does one round with the key at off(AX).
#define ROUND(OP, off) \
	MOVUPS off(AX), X8; \
	EACH(OP)

// CIPHER does all rounds but the first step, with the keys at BX. CX is the number of
// rounds: 10, 12 or 14.
#define CIPHER(OP, LAST, twelve, ten) \
	MOVQ BX, AX; \
	CMPQ CX, $12; \
	JB   ten; \
	JE   twelve; \
	ROUND(OP, 16); \
	ROUND(OP, 32); \
	ADDQ $32, AX; \
twelve: \
	ROUND(OP, 16); \
	ROUND(OP, 32); \
	ADDQ $32, AX; \
ten: \
	ROUND(OP, 16); \
	ROUND(OP, 32); \
	ROUND(OP, 48); \
	ROUND(OP, 64); \
	ROUND(OP, 80); \
	ROUND(OP, 96); \
	ROUND(OP, 112); \
	ROUND(OP, 128); \
	ROUND(OP, 144); \
	ROUND(LAST, 160)

// func encrypt8(keys *[15][16]byte, rounds int, at *[8]*byte, n int)
TEXT ·encrypt8(SB), NOSPLIT, $0-32
	MOVQ keys+0(FP), BX
	MOVQ rounds+8(FP), CX
	MOVQ at+16(FP), AX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	MOVQ 32(AX), R12
	MOVQ 40(AX), R13
	MOVQ 48(AX), SI
	MOVQ 56(AX), DI
	XORQ DX, DX // what is done of each message, in bytes

	MOVUPS -16(R8), X0
	MOVUPS -16(R9), X1
	MOVUPS -16(R10), X2
	MOVUPS -16(R11), X3
	MOVUPS -16(R12), X4
	MOVUPS -16(R13), X5
	MOVUPS -16(SI), X6
	MOVUPS -16(DI), X7

next:
	// The first key and the plaintext are added to the block before.
	MOVUPS (BX), X8
	MOVUPS (R8)(DX*1), X9
	MOVUPS (R9)(DX*1), X10
	MOVUPS (R10)(DX*1), X11
	MOVUPS (R11)(DX*1), X12
	PXOR   X9, X0
	PXOR   X10, X1
	PXOR   X11, X2
	PXOR   X12, X3
	MOVUPS (R12)(DX*1), X9
	MOVUPS (R13)(DX*1), X10
	MOVUPS (SI)(DX*1), X11
	MOVUPS (DI)(DX*1), X12
	PXOR   X9, X4
	PXOR   X10, X5
	PXOR   X11, X6
	PXOR   X12, X7
	EACH(PXOR)

	CIPHER(AESENC, AESENCLAST, twelve, ten)

	// All loads of this step come before its stores: two messages may be one.
	MOVUPS X0, (R8)(DX*1)
	MOVUPS X1, (R9)(DX*1)
	MOVUPS X2, (R10)(DX*1)
	MOVUPS X3, (R11)(DX*1)
	MOVUPS X4, (R12)(DX*1)
	MOVUPS X5, (R13)(DX*1)
	MOVUPS X6, (SI)(DX*1)
	MOVUPS X7, (DI)(DX*1)
	ADDQ   $16, DX
	DECQ   n+24(FP)
	JNZ    next
	PXOR   X8, X8 // the last key: a signal would store it, see package wipe
	RET

// func decrypt8(keys *[15][16]byte, rounds int, p *byte, n int)
TEXT ·decrypt8(SB), NOSPLIT, $0-32
	MOVQ keys+0(FP), BX
	MOVQ rounds+8(FP), CX
	MOVQ p+16(FP), DI
	MOVQ n+24(FP), DX
	MOVUPS -16(DI), X9 // the ciphertext before the eight blocks

next:
	MOVUPS 0(DI), X0
	MOVUPS 16(DI), X1
	MOVUPS 32(DI), X2
	MOVUPS 48(DI), X3
	MOVUPS 64(DI), X4
	MOVUPS 80(DI), X5
	MOVUPS 96(DI), X6
	MOVUPS 112(DI), X7
	MOVUPS (BX), X8
	EACH(PXOR)

	CIPHER(AESDEC, AESDECLAST, twelve, ten)

	PXOR   X9, X0
	MOVUPS 0(DI), X9
	MOVUPS 16(DI), X10
	MOVUPS 32(DI), X11
	MOVUPS 48(DI), X12
	PXOR   X9, X1
	PXOR   X10, X2
	PXOR   X11, X3
	PXOR   X12, X4
	MOVUPS 64(DI), X10
	MOVUPS 80(DI), X11
	MOVUPS 96(DI), X12
	MOVUPS 112(DI), X9
	PXOR   X10, X5
	PXOR   X11, X6
	PXOR   X12, X7
	MOVUPS X0, 0(DI)
	MOVUPS X1, 16(DI)
	MOVUPS X2, 32(DI)
	MOVUPS X3, 48(DI)
	MOVUPS X4, 64(DI)
	MOVUPS X5, 80(DI)
	MOVUPS X6, 96(DI)
	MOVUPS X7, 112(DI)
	ADDQ   $128, DI
	DECQ   DX
	JNZ    next
	PXOR   X8, X8
	RET

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL   w+0(FP), AX
	MOVD   AX, X0
	PSHUFD $0, X0, X0
	AESKEYGENASSIST $0, X0, X0
	MOVD   X0, AX
	MOVL   AX, ret+8(FP)
	RET

// func invMixColumns(key *[16]byte)
TEXT ·invMixColumns(SB), NOSPLIT, $0-8
	MOVQ   key+0(FP), DI
	MOVUPS (DI), X0
	AESIMC X0, X0
	MOVUPS X0, (DI)
	RET
