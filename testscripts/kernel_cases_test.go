package testscripts

import "fmt"

// The algorithms by the names of ipsec spi, with the kernel's names and the sizes in
// bits.
var (
	encAlgs = []struct {
		name, kernel, decoder string
		bits                  int
	}{
		{"null", "ecb(cipher_null)", "null", 0},
		{"3des", "cbc(des3_ede)", "3des", 192},
		{"aes128", "cbc(aes)", "aes", 128},
		{"aes192", "cbc(aes)", "aes", 192},
		{"aes256", "cbc(aes)", "aes", 256},
	}
	authAlgs = []struct {
		name, ah, kernel, decoder string
		bits, icv                 int
	}{
		{"md5", "hmac-md5-96", "hmac(md5)", "md5", 128, 96},
		{"sha1", "hmac-sha1-96", "hmac(sha1)", "sha1", 160, 96},
		{"sha2_256", "hmac-sha2-256-128", "hmac(sha256)", "sha256", 256, 128},
		{"sha2_256-96", "hmac-sha2-256-96", "hmac(sha256)", "sha256-96", 256, 96},
		{"sha2_384", "hmac-sha2-384-192", "hmac(sha384)", "sha384", 384, 192},
		{"sha2_512", "hmac-sha2-512-256", "hmac(sha512)", "sha512", 512, 256},
	}
	aeadAlgs = []struct {
		name, kernel, decoder string
		bits                  int // with the salt
	}{
		{"aes128-gcm", "rfc4106(gcm(aes))", "aes-gcm", 160},
		{"aes192-gcm", "rfc4106(gcm(aes))", "aes-gcm", 224},
		{"aes256-gcm", "rfc4106(gcm(aes))", "aes-gcm", 288},
		{"chacha20-poly1305", "rfc7539esp(chacha20,poly1305)", "chacha20poly1305", 288},
	}
)

// espXform returns an ESP transform of the i-th cipher and j-th authentication.
func espXform(i, j int) xform {
	e, a := encAlgs[i], authAlgs[j]
	key := `""`
	if e.bits > 0 {
		key = testKey(e.bits)
	}
	x := xform{
		proto:  "esp",
		ours:   fmt.Sprintf("--esp %s-%s --authkey %s", e.name, a.name, testKey(a.bits)),
		kernel: fmt.Sprintf("enc %s %s auth-trunc %s %s %d", e.kernel, key, a.kernel, testKey(a.bits), a.icv),
		enc:    e.decoder, encKey: "-", auth: a.decoder, authKey: testKey(a.bits),
	}
	if e.bits > 0 {
		x.encKey = key
		x.ours += " --enckey " + key
	}
	return x
}

// aeadXform returns an ESP transform of the k-th combined mode.
func aeadXform(k int, key string) xform {
	a := aeadAlgs[k]
	return xform{
		proto:  "esp",
		ours:   fmt.Sprintf("--esp %s --enckey %s", a.name, key),
		kernel: fmt.Sprintf("aead %s %s 128", a.kernel, key),
		enc:    a.decoder, encKey: key, auth: "-", authKey: "-",
	}
}

// ahXform returns an AH transform of the j-th authentication.
func ahXform(j int) xform {
	a := authAlgs[j]
	return xform{
		proto:  "ah",
		ours:   fmt.Sprintf("--ah %s --authkey %s", a.ah, testKey(a.bits)),
		kernel: fmt.Sprintf("auth-trunc %s %s %d", a.kernel, testKey(a.bits), a.icv),
		enc:    "-", encKey: "-", auth: a.decoder, authKey: testKey(a.bits),
	}
}

// inUDP encapsulates an ESP transform in UDP, for an outer header of IPv4 or IPv6.
func inUDP(x xform, outer int) xform {
	x.udp = true
	x.ours += " --natt nonesp --sport 4500 --dport 4500"
	// The kernel does not use the original address of a state.
	x.kernel += " encap espinudp 4500 4500 " + [2]string{"0.0.0.0", "::"}[outer]
	return x
}

// withESN gives a transform 64-bit sequence numbers.
func withESN(x xform) xform {
	x.ours += " --esn --replay_window 64"
	x.kernel += " replay-window 64"
	x.flags = "esn"
	return x
}

// beforeWrap is the last number that the kernel's side of a crossed case has used: the
// third packet is the last one before the low half starts at 0 again.
const beforeWrap = 1<<32 - 4

// crossing makes the kernel's extended sequence numbers towards us cross the border of
// the low half. The numbers of the embedded stack can only begin at 1.
func crossing(x xform) xform {
	x = withESN(x)
	x.towardsUs = fmt.Sprintf(" replay-oseq %d replay-oseq-hi 0", beforeWrap)
	return x
}

func interopCases() (cases []interopCase) {
	tun, comp := xform{proto: "tun"}, xform{proto: "comp", ours: "--comp deflate", kernel: "comp deflate "}
	esp, ah := espXform(2, 1), ahXform(1)
	families := [2]string{"4", "6"}
	var small, all = []int{8, 1200}, []int{8, 56, 1200, 3000}
	for _, s := range []struct {
		name   string
		xforms []xform
	}{
		{"tun+esp", []xform{tun, esp}},
		{"tun+ah", []xform{tun, ah}},
		{"tun+esp+ah", []xform{tun, esp, ah}},
		{"tun+comp+esp", []xform{tun, comp, esp}},
		{"tun+comp+esp+ah", []xform{tun, comp, esp, ah}},
	} {
		for outer := range families {
			for inner := range families {
				cases = append(cases, interopCase{fmt.Sprintf("%s/%sin%s", s.name, families[inner], families[outer]), s.xforms, inner, outer, all})
			}
		}
	}
	for _, s := range []struct {
		name   string
		xforms []xform
	}{
		{"esp", []xform{esp}},
		{"ah", []xform{ah}},
		{"esp+ah", []xform{esp, ah}},
		{"comp+esp", []xform{comp, esp}},
	} {
		for f := range families {
			cases = append(cases, interopCase{"transport/" + s.name + "/" + families[f], s.xforms, f, f, all})
		}
	}
	for f := range families {
		add := func(name string, x xform) {
			cases = append(cases, interopCase{"algorithm/" + name + "/" + families[f], []xform{tun, x}, f, f, small})
		}
		for i, e := range encAlgs {
			for j, a := range authAlgs {
				// IPv6 uses the same transforms: one case for each algorithm is enough.
				if f == 0 || i == 2 || j == 1 {
					add(e.name+"-"+a.name, espXform(i, j))
				}
			}
		}
		for k, a := range aeadAlgs {
			add(a.name, aeadXform(k, testKey(a.bits)))
		}
		for j, a := range authAlgs {
			add("ah-"+a.name, ahXform(j))
		}
	}
	return append(cases, extraCases()...)
}

// extraCases returns cases with ESP in UDP and with extended sequence numbers.
func extraCases() (cases []interopCase) {
	tun, esp, ah := xform{proto: "tun"}, espXform(2, 1), ahXform(1)
	gcm := aeadXform(0, testKey(aeadAlgs[0].bits))
	families := [2]string{"4", "6"}
	for outer := range families {
		for inner := range families {
			add := func(name string, xforms ...xform) {
				name = fmt.Sprintf("%s/%sin%s", name, families[inner], families[outer])
				cases = append(cases, interopCase{name, append([]xform{tun}, xforms...), inner, outer, []int{8, 56, 1200, 3000}})
			}
			add("udp/tun+esp", inUDP(esp, outer))
			add("esn/tun+esp", withESN(esp))
			add("esn/tun+ah", withESN(ah))
			if inner == outer {
				add("udp/tun+esp-gcm", inUDP(gcm, outer))
				add("esn/tun+esp-gcm", withESN(gcm))
				add("esn/tun+esp+ah", withESN(esp), withESN(ah))
				add("esn+udp/tun+esp", withESN(inUDP(esp, outer)))
			}
		}
		sizes := []int{8, 56, 1200}
		for _, s := range []struct {
			name   string
			xforms []xform
		}{
			{"crossed/tun+esp", []xform{tun, crossing(esp)}},
			{"crossed/tun+esp-gcm", []xform{tun, crossing(gcm)}},
			{"crossed/tun+ah", []xform{tun, crossing(ah)}},
			{"crossed/esp", []xform{crossing(esp)}},
			{"crossed+udp/esp", []xform{crossing(inUDP(esp, outer))}},
		} {
			cases = append(cases, interopCase{name: "esn/" + s.name + "/" + families[outer], xforms: s.xforms,
				inner: outer, outer: outer, sizes: sizes})
		}
		for _, s := range []struct {
			name string
			x    xform
		}{
			{"udp/transport/esp", inUDP(esp, outer)},
			{"esn/transport/esp", withESN(esp)},
			{"esn/transport/ah", withESN(ah)},
			{"esn+udp/transport/esp", withESN(inUDP(esp, outer))},
		} {
			cases = append(cases, interopCase{s.name + "/" + families[outer], []xform{s.x}, outer, outer, sizes})
		}
	}
	return cases
}
