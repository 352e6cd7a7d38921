package alg

var (
	noKey  = []int{0}
	aesKey = []int{128, 192, 256}
	gcmKey = []int{128 + SaltBits, 192 + SaltBits, 256 + SaltBits}
)

var auths = list[Auth]{
	{AuthNone, Info{Word: "none", KeyBits: noKey}},
	{MD5, Info{
		Word: "hmac-md5", Listing: "_HMAC_MD5", Kernel: "hmac(md5)", Usage: "hmac-md5-96",
		Title: "HMAC-MD5-96", RFC: 2403, Setkey: "hmac-md5", Wireshark: "HMAC-MD5-96 [RFC2403]",
		Names:   []string{"md5", "md5-96"},
		KeyBits: []int{128}, ICV: 12, Hash: 128,
	}},
	{SHA1, Info{
		Word: "hmac-sha1", Listing: "_HMAC_SHA1", Kernel: "hmac(sha1)", Usage: "hmac-sha1-96",
		Title: "HMAC-SHA-1-96", RFC: 2404, Setkey: "hmac-sha1", Wireshark: "HMAC-SHA-1-96 [RFC2404]",
		Names:   []string{"sha1", "sha1-96", "sha-96", "sha"},
		KeyBits: []int{160}, ICV: 12, Hash: 160,
	}},
	{SHA256, Info{
		Word: "hmac-sha2-256", Listing: "_HMAC_SHA2_256", Kernel: "hmac(sha256)", Usage: "hmac-sha2-256-128",
		Title: "HMAC-SHA-256-128", RFC: 4868, Setkey: "hmac-sha2-256", Wireshark: "HMAC-SHA-256-128 [RFC4868]",
		Names:   []string{"sha2-256", "sha2", "sha256", "sha2-256-128", "sha256-128"},
		KeyBits: []int{256}, ICV: 16, Hash: 256,
	}},
	// In the kernel only the length of the ICV distinguishes it from the previous one.
	{SHA256Trunc, Info{
		Word: "hmac-sha2-256-96", Listing: "_HMAC_SHA2_256_96", Kernel: "hmac(sha256)", Usage: "hmac-sha2-256-96",
		Title: "HMAC-SHA-256-96", Setkey: "hmac-sha2-256", Wireshark: "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]",
		Names:   []string{"sha2-256-96", "sha256-96"},
		KeyBits: []int{256}, ICV: 12, Hash: 256,
	}},
	{SHA384, Info{
		Word: "hmac-sha2-384", Listing: "_HMAC_SHA2_384", Kernel: "hmac(sha384)", Usage: "hmac-sha2-384-192",
		Title: "HMAC-SHA-384-192", RFC: 4868, Setkey: "hmac-sha2-384", Wireshark: "HMAC-SHA-384-192 [RFC4868]",
		Names:   []string{"sha2-384", "sha384", "sha2-384-192", "sha384-192"},
		KeyBits: []int{384}, ICV: 24, Hash: 384,
	}},
	{SHA512, Info{
		Word: "hmac-sha2-512", Listing: "_HMAC_SHA2_512", Kernel: "hmac(sha512)", Usage: "hmac-sha2-512-256",
		Title: "HMAC-SHA-512-256", RFC: 4868, Setkey: "hmac-sha2-512", Wireshark: "HMAC-SHA-512-256 [RFC4868]",
		Names:   []string{"sha2-512", "sha512", "sha2-512-256", "sha512-256"},
		KeyBits: []int{512}, ICV: 32, Hash: 512,
	}},
}

var encs = list[Enc]{
	{EncNone, Info{Word: "none", KeyBits: noKey, Block: 1}},
	{TripleDES, Info{
		Word: "3des", Listing: "_3DES", Kernel: "cbc(des3_ede)",
		Title: "3DES-CBC", RFC: 2451, Setkey: "3des-cbc", Wireshark: "TripleDES-CBC [RFC2451]",
		Names:   []string{"3des"},
		KeyBits: []int{192}, Block: 8, IV: 8,
	}},
	{AES, Info{
		Word: "aes", Listing: "_AES", Kernel: "cbc(aes)",
		Title: "AES-CBC", RFC: 3602, Setkey: "aes-cbc", Wireshark: "AES-CBC [RFC3602]",
		Names:   []string{"aes", "aes-cbc"},
		KeyBits: aesKey, Block: 16, IV: 16,
	}},
	{Null, Info{
		Word: "null", Listing: "_NULL", Kernel: "ecb(cipher_null)",
		Title: "NULL", RFC: 2410, Setkey: "null", Wireshark: "NULL",
		Names:   []string{"null"},
		KeyBits: noKey, Block: 1,
	}},
	// Its ICV has 16 bytes, for which KLIPS uses the letter c.
	{AESGCM, Info{
		Word: "aes-gcm", Listing: "_AES_GCM", Kernel: "rfc4106(gcm(aes))",
		Title: "AES-GCM with a 16 octet ICV", RFC: 4106, Setkey: "aes-gcm-16", Wireshark: "AES-GCM with 16 octet ICV [RFC4106]",
		Names:   []string{"aes-gcm", "aes-gcm-16", "aes-gcm-c"},
		KeyBits: gcmKey, Block: 1, IV: 8, ICV: 16, AEAD: true,
	}},
	{ChaCha20Poly1305, Info{
		Word: "chacha20-poly1305", Listing: "_CHACHA20_POLY1305", Kernel: "rfc7539esp(chacha20,poly1305)",
		Title: "ChaCha20-Poly1305", RFC: 7634, Setkey: "chacha20-poly1305",
		Names:   []string{"chacha20-poly1305"},
		KeyBits: []int{256 + SaltBits}, Block: 1, IV: 8, ICV: 16, AEAD: true,
	}},
}

var comps = list[Comp]{
	{CompNone, Info{Word: "none", Listing: "_NONE", KeyBits: noKey}},
	{Deflate, Info{
		Word: "deflate", Listing: "_DEFLATE", Kernel: "deflate",
		Title: "DEFLATE", RFC: 2394, Setkey: "deflate",
		Names: []string{"deflate"}, KeyBits: noKey,
	}},
	{LZS, Info{
		Word: "lzs", Listing: "_LZS",
		Title: "LZS", RFC: 2395, Setkey: "lzs",
		Names: []string{"lzs"}, KeyBits: noKey,
	}},
}
